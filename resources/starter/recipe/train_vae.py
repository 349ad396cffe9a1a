"""AutoencoderKL, 64x64x3 -> 16x16x4.

L1 + squared error + edges + a small KL; 32x32 crops first, whole pictures at the end.

usage: train_vae.py MINUTES"""

import random
import sys
import time

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL

from common import WORK, Clock, Ema, compose, load_sprites, psnr, save_grid, scenes

OUT = WORK / "vae"
CHANNELS, BATCH, CROP, RATE = (24, 48, 96), 16, 32, 2e-3


def build():
    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        latent_channels=4,
        block_out_channels=CHANNELS,
        layers_per_block=1,
        norm_num_groups=8,
        down_block_types=("DownEncoderBlock2D",) * 3,
        up_block_types=("UpDecoderBlock2D",) * 3,
        sample_size=64,
        scaling_factor=1.0,
        force_upcast=False,
    )


def edges(x):
    return torch.cat([(x[..., 1:, :] - x[..., :-1, :]).flatten(1), (x[..., 1:] - x[..., :-1]).flatten(1)], 1)


def crops(x):
    corners = [(random.randrange(65 - CROP), random.randrange(65 - CROP)) for _ in x]
    return torch.stack([p[:, a : a + CROP, b : b + CROP] for p, (a, b) in zip(x, corners)])


@torch.no_grad()
def save(vae, ema, check):
    """Writes the averaged weights and prints how well they do on compositions kept apart."""
    ema.swap()
    vae.eval()
    q = vae.encode(check).latent_dist
    r = vae.decode(q.mean).sample
    vae.register_to_config(scaling_factor=round(1 / q.sample().std().item(), 4))
    by_channel = q.mean.transpose(0, 1).flatten(1)
    print(
        f"  PSNR {psnr(r, check):.2f} (from sampled latents {psnr(vae.decode(q.sample()).sample, check):.2f}), "
        f"latent means {[round(v, 2) for v in by_channel.mean(1).tolist()]}, "
        f"stds {[round(v, 2) for v in by_channel.std(1).tolist()]}, "
        f"noise {q.std.mean():.3f}, scaling {vae.config.scaling_factor}",
        flush=True,
    )
    vae.save_pretrained(OUT)
    save_grid(torch.stack([check[:32:2], r[:32:2]], 1).flatten(0, 1), WORK / "samples_vae.png")
    vae.train()
    ema.swap()


def main(minutes):
    random.seed(1)
    torch.manual_seed(1)
    items, sprites = load_sprites(("3d", "flat"))
    vae = build().to(memory_format=torch.channels_last)
    print("parameters", sum(p.numel() for p in vae.parameters()))
    check = compose(sprites, scenes(items, range(len(items)))[1])
    optimizer = torch.optim.AdamW(
        [p for p in vae.parameters() if p.requires_grad], lr=RATE, betas=(0.9, 0.99), weight_decay=1e-4
    )
    ema, clock, seen, losses, last = Ema(vae.parameters()), Clock(minutes), 0, [], time.time()
    while clock.done < 1:
        index = [random.randrange(len(items)) for _ in range(BATCH)]
        x = compose(sprites[index], scenes(items, index, flip=0.5)[1])
        x = crops(x) if clock.done < 0.7 else x[: BATCH // 2]
        q = vae.encode(x.contiguous(memory_format=torch.channels_last)).latent_dist
        z = q.sample()
        r = vae.decode(z).sample
        l1 = (r - x).abs().mean()
        kl = q.kl().mean() / q.mean[0].numel()
        loss = l1 + F.mse_loss(r, x) + 0.5 * (edges(r) - edges(x)).abs().mean() + 5e-4 * kl
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(vae.parameters(), 1.0)
        for group in optimizer.param_groups:
            group["lr"] = RATE * clock.factor()
        optimizer.step()
        ema.update()
        seen += len(x)
        losses.append(l1.item())
        if len(losses) == 100:
            print(
                f"t={clock.elapsed:.0f}s seen {seen} l1 {sum(losses) / 100:.4f} kl {kl.item():.3f}",
                flush=True,
            )
            losses = []
        if time.time() - last > 120:
            save(vae, ema, check)
            last = time.time()
    save(vae, ema, check)
    print("done", seen)


if __name__ == "__main__":
    main(float(sys.argv[1]))
