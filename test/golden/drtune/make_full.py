"""The DRTune gradient of every weight of the UNet by PyTorch's own tape, on the tiny pipeline of this folder.

    python make_full.py          (torch 2.15, diffusers 0.42.1, transformers 5.23, peft 0.21; CPU, float32)

Writes full.safetensors: reward, x0 and, keyed by state-dict key, the norm of each weight's gradient and its product with a fixed direction,
cos(1 + i) over its values in torch's order: two numbers that a wrong gradient does not meet.
"""
import os, sys
HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
import torch
from diffusers import DDIMScheduler
from make_text import load
from safetensors.torch import save_file

T, B, G, W, H, TRAINED = 3, 2, 3.0, 32, 24, [1, 3]

if __name__ == "__main__":
    torch.set_num_threads(1)
    pipe = load("sdxl")
    pipe.unet.requires_grad_(True)
    noise = torch.cat([torch.randn(1, 4, H // 4, W // 4, generator=torch.Generator().manual_seed(5 + i)) for i in range(B)])
    with torch.no_grad(): c, n, cp, np_ = pipe.encode_prompt(["a red apple", "two blue cats"], do_classifier_free_guidance=True, negative_prompt=["ugly"] * B)
    ids = torch.tensor([[H, W, 0, 0, H, W]], dtype=torch.float32).expand(2 * B, -1)
    scheduler = DDIMScheduler.from_config({**pipe.scheduler.config, "clip_sample": False})
    scheduler.set_timesteps(T)
    x = noise * scheduler.init_noise_sigma
    for i, timestep in enumerate(scheduler.timesteps):
        branches = pipe.unet(torch.cat([x, x]).detach(), timestep, torch.cat([n, c]), added_cond_kwargs=dict(text_embeds=torch.cat([np_, cp]), time_ids=ids)).sample
        if T - i not in TRAINED: branches = branches.detach()
        a, b = branches.chunk(2)
        x = scheduler.step(a + G * (b - a), timestep, x).prev_sample
    pictures = (pipe.vae.decode(x / pipe.vae.config.scaling_factor).sample / 2 + 0.5).clamp(0, 1)
    reward = -(pictures - pictures.flip(-1)).abs().mean((1, 2, 3)).mean()
    reward.backward()
    out = {"reward": reward.detach().reshape(1), "x0": x.detach()}
    for key, p in pipe.unet.named_parameters():
        direction = torch.cos(1 + torch.arange(p.numel(), dtype=torch.float64))
        g = p.grad.flatten().double()
        out[key] = torch.stack([g.norm(), (g * direction).sum()]).float()
    save_file(out, f"{HERE}/full.safetensors", metadata=dict(script="test/golden/drtune/make_full.py", torch=torch.__version__))
    print(len(out) - 2, "weights, reward", float(reward))
