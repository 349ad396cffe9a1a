"""Golden values and picture gradients of the rewards, from PyTorch. Writes rewards.safetensors beside this file.

usage: python make_rewards.py        (torch 2.x, safetensors; CPU, float32)
Pictures are stored [B,H,W,3] in [0,1], non-square and of odd size; gradients are of the sum over the batch.
"""
import math, os
import torch, torch.nn.functional as F
from safetensors.torch import save_file

torch.manual_seed(7)
B, H, W = 2, 21, 27
MU, SD = torch.tensor([.48145466, .4578275, .40821073]), torch.tensor([.26862954, .26130258, .27577711])


def symmetry(x):
    return -(x - x.flip(2)).abs().mean((1, 2, 3))


def relative_symmetry(x):
    return symmetry(x) / ((x - x.mean((1, 2), keepdim=True)).abs().mean((1, 2, 3)) + 0.03)


def brightness(x):
    return (x * torch.tensor([0.299, 0.587, 0.114])).sum(-1).mean((1, 2))


def colorfulness(x):
    r, g, b = x.unbind(-1)
    rg, yb = r - g, (r + g) / 2 - b
    var = lambda v: v.var((1, 2), unbiased=False)
    mean = lambda v: v.mean((1, 2))
    return (var(rg) + var(yb) + 1e-8).sqrt() + 0.3 * (mean(rg) ** 2 + mean(yb) ** 2 + 1e-8).sqrt()


def detail(x):
    return (x[:, :, 1:] - x[:, :, :-1]).abs().mean((1, 2, 3)) + (x[:, 1:] - x[:, :-1]).abs().mean((1, 2, 3))


LUM = [16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55, 14, 13, 16, 24, 40, 57, 69, 56, 14, 17, 22, 29, 51, 87, 80, 62,
       18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92, 49, 64, 78, 87, 103, 121, 120, 101, 72, 92, 95, 98, 112, 100, 103, 99]
CHR = [17, 18, 24, 47, 99, 99, 99, 99, 18, 21, 26, 66, 99, 99, 99, 99, 24, 26, 56, 99, 99, 99, 99, 99, 47, 66, 99, 99, 99, 99, 99, 99] + [99] * 32


def compressibility(x, quality=75):
    """Minus the soft bits per pixel of a baseline JPEG, 4:2:0; same cost model as src-main/rewards/jpeg.ts, by another route (F.unfold, einsum)."""
    scale = 200 - 2 * quality
    table = lambda t: torch.tensor([min(255, max(1, (v * scale + 50) // 100)) for v in t], dtype=torch.float32).view(8, 8)
    p = F.pad(x.permute(0, 3, 1, 2) * 255, (0, -x.shape[2] % 16, 0, -x.shape[1] % 16), mode="replicate")
    r, g, b = p.unbind(1)
    y = 0.299 * r + 0.587 * g + 0.114 * b - 128
    cb = F.avg_pool2d((-0.168735892 * r - 0.331264108 * g + 0.5 * b)[:, None], 2)[:, 0]
    cr = F.avg_pool2d((0.5 * r - 0.418687589 * g - 0.081312411 * b)[:, None], 2)[:, 0]
    k = torch.arange(8.0)
    D = torch.cos((2 * k[None] + 1) * k[:, None] * math.pi / 16) * 0.5
    D[0] *= math.sqrt(0.5)
    log = lambda q: torch.log1p((q * q + 1e-6).sqrt()) / math.log(2)

    def bits(plane, t):
        blocks = F.unfold(plane[:, None], 8, stride=8).transpose(1, 2).unflatten(-1, (8, 8))      # [B,n,8,8] in raster order
        q = (torch.einsum("ui,bnij,vj->bnuv", D, blocks, D) / table(t)).flatten(2)
        ac, dc = q[..., 1:], q[..., 0]
        d = dc - F.pad(dc, (1, 0))[:, :-1]
        return (2.8 * ac ** 2 / (ac ** 2 + 0.25) + 1.15 * log(ac)).sum((1, 2)) + (1.6 * log(d)).sum(1) + 2.5 * q.shape[1]

    return -(bits(y, LUM) + bits(cb, CHR) + bits(cr, CHR)) / (x.shape[1] * x.shape[2])


def clip_preprocess(x, size=16):
    """Short side to `size` by antialiased bicubic, centre crop, normalised; the reward here is its product with a fixed ramp."""
    h, w = x.shape[1:3]
    p = x.permute(0, 3, 1, 2)
    p = F.interpolate(p, (size, size * w // h) if h <= w else (size * h // w, size), mode="bicubic", antialias=True, align_corners=False)
    top, left = (p.shape[2] - size) // 2, (p.shape[3] - size) // 2
    return (p[:, :, top:top + size, left:left + size].permute(0, 2, 3, 1) - MU) / SD


out, meta = {}, dict(script="test/golden/rewards/make_rewards.py", torch=torch.__version__, seed="7")
smooth = F.interpolate(torch.rand(B, 3, 5, 6), (H, W), mode="bicubic").permute(0, 2, 3, 1).clamp(0.02, 0.98)
images = (smooth + 0.05 * torch.randn(B, H, W, 3)).clamp(0, 1)
out["images"] = images
for reward in (symmetry, relative_symmetry, brightness, colorfulness, compressibility, detail):
    x = images.clone().requires_grad_()
    value = reward(x)
    value.sum().backward()
    name = reward.__name__.replace("_", "-")
    out[f"{name}.value"], out[f"{name}.grad"] = value.detach(), x.grad
for name, tall in (("wide", False), ("tall", True)):
    x = (images.transpose(1, 2) if tall else images).contiguous().clone().requires_grad_()
    seen = clip_preprocess(x)
    ramp = torch.sin(torch.arange(seen.numel(), dtype=torch.float32)).view_as(seen)
    (seen * ramp).sum().backward()
    out[f"preprocess-{name}.value"], out[f"preprocess-{name}.grad"] = seen.detach(), x.grad
big = F.interpolate(torch.rand(1, 3, 4, 4), (9, 7), mode="bicubic").permute(0, 2, 3, 1).contiguous()
out["upsample.images"], out["upsample.value"] = big, clip_preprocess(big)
save_file({k: v.contiguous() for k, v in out.items()}, os.path.join(os.path.dirname(os.path.abspath(__file__)), "rewards.safetensors"), metadata=meta)
