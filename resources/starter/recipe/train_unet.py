"""The SDXL-shaped UNet, on cached latents and cached text embeddings.

usage: train_unet.py cache
then:  OMP_NUM_THREADS=1 torchrun --nproc-per-node 2 train_unet.py MINUTES
(one process per core, gradients averaged; plain python works too)"""

import os
import random
import sys
import time

import torch
import torch.distributed as dist
from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from transformers import CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

from common import WORK, Clock, Ema, compose, load_sprites, scenes

CHANNELS, BATCH, RATE = (48, 96, 160), 32, 1e-3  # batch of one process
VIEWS = 160  # cached compositions of every sprite
RANK, WORLD = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))
SCHEDULE = dict(
    num_train_timesteps=1000,
    beta_start=0.00085,
    beta_end=0.012,
    beta_schedule="scaled_linear",
    prediction_type="epsilon",
)


def load_parts():
    """Tokenizers, text encoders and VAE as trained so far."""
    return (
        CLIPTokenizer.from_pretrained(WORK / "tokenizer"),
        CLIPTokenizer.from_pretrained(WORK / "tokenizer_2"),
        CLIPTextModel.from_pretrained(WORK / "text_encoder").eval(),
        CLIPTextModelWithProjection.from_pretrained(WORK / "text_encoder_2").eval(),
        AutoencoderKL.from_pretrained(WORK / "vae").eval(),
    )


def build():
    return UNet2DConditionModel(
        sample_size=16,
        in_channels=4,
        out_channels=4,
        block_out_channels=CHANNELS,
        layers_per_block=1,
        norm_num_groups=8,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "CrossAttnUpBlock2D", "UpBlock2D"),
        transformer_layers_per_block=(1, 1, 1),
        attention_head_dim=(1, 2, 4),
        cross_attention_dim=192,
        use_linear_projection=True,
        addition_embed_type="text_time",
        addition_time_embed_dim=32,
        projection_class_embeddings_input_dim=128 + 6 * 32,
    )


@torch.no_grad()
def encode_text(captions, tokenizer_1, tokenizer_2, encoder_1, encoder_2):
    """SDXL's way: the last but one hidden states of both encoders side by side, and the second's embedding."""
    out = []
    for tokenizer, encoder in ((tokenizer_1, encoder_1), (tokenizer_2, encoder_2)):
        length = tokenizer.model_max_length
        ids = tokenizer(
            captions, padding="max_length", truncation=True, max_length=length, return_tensors="pt"
        )
        out.append(encoder(ids["input_ids"], output_hidden_states=True))
    a, b = out
    return torch.cat([a.hidden_states[-2], b.hidden_states[-2]], -1), b.text_embeds


@torch.no_grad()
def cache():
    """Latents of VIEWS compositions of every sprite, and the embeddings of their captions."""
    random.seed(3)
    torch.manual_seed(3)
    items, sprites = load_sprites(("3d", "flat"))
    *text, vae = load_parts()
    index = list(range(len(items))) * VIEWS
    captions, numbers = scenes(items, index)
    pictures = (compose(sprites[index[i : i + 64]], numbers[i : i + 64]) for i in range(0, len(index), 64))
    latents = torch.cat([vae.encode(x).latent_dist.mean for x in pictures]) * vae.config.scaling_factor
    unique = list(dict.fromkeys(captions))
    row = {c: i for i, c in enumerate(unique)}
    hidden, pooled = map(
        torch.cat, zip(*[encode_text(unique[i : i + 128], *text) for i in range(0, len(unique), 128)])
    )
    torch.save((latents, torch.tensor([row[c] for c in captions]), hidden.half(), pooled), WORK / "cache.pt")
    print(f"{len(latents)} latents, std {latents.std():.3f}, {len(unique)} captions")


def snr_weights(alphas, gamma=5.0):
    """Min-SNR weights of the eps loss."""
    snr = alphas / (1 - alphas)
    return snr.clamp(max=gamma) / snr


def alphas_cumprod():
    return torch.cumprod(
        1 - torch.linspace(SCHEDULE["beta_start"] ** 0.5, SCHEDULE["beta_end"] ** 0.5, 1000) ** 2, 0
    )


def average_gradients(parameters, progress):
    """Averages gradients over the processes, and their progress, so that all agree on the learning rate and the end."""
    if WORLD == 1:
        return progress
    flat = torch.cat([p.grad.reshape(-1) for p in parameters] + [torch.tensor([progress])])
    dist.all_reduce(flat)
    flat /= WORLD
    at = 0
    for p in parameters:
        p.grad.copy_(flat[at : at + p.numel()].view_as(p))
        at += p.numel()
    return flat[-1].item()


def main(minutes):
    if WORLD > 1:
        dist.init_process_group("gloo")
    random.seed(4)
    torch.manual_seed(4)
    unet = build()
    unet.set_attn_processor(
        AttnProcessor()
    )  # on a CPU, the backward pass of the fused attention is several times slower
    torch.manual_seed(100 + RANK)
    latents, rows, hidden, pooled = torch.load(WORK / "cache.pt", mmap=True)
    parameters, alphas = list(unet.parameters()), alphas_cumprod()
    weights = snr_weights(alphas)
    if RANK == 0:
        print("parameters", sum(p.numel() for p in parameters), flush=True)
    optimizer = torch.optim.AdamW(parameters, lr=RATE, betas=(0.9, 0.99), weight_decay=1e-2)
    ema, clock, steps, losses, last = Ema(parameters, 0.999), Clock(minutes), 0, [], time.time()
    sizes = torch.tensor([[64.0, 64, 0, 0, 64, 64]]).expand(BATCH, -1)

    def save():
        ema.swap()
        unet.save_pretrained(WORK / "unet")
        ema.swap()

    progress = 0.0
    while progress < 1:
        pick = torch.randint(len(latents), (BATCH,))
        x, c, pool = latents[pick], hidden[rows[pick]].float(), pooled[rows[pick]].clone()
        drop = torch.rand(BATCH) < 0.1  # no caption: zeros, as force_zeros_for_empty_prompt gives
        c[drop], pool[drop] = 0, 0
        t = (torch.randperm(BATCH) + torch.rand(BATCH)).mul(1000 / BATCH).long()
        noise, a = torch.randn_like(x), alphas[t].view(-1, 1, 1, 1)
        with torch.autocast("cpu", torch.bfloat16, enabled=progress < 0.85):
            out = unet(
                a.sqrt() * x + (1 - a).sqrt() * noise,
                t,
                c,
                added_cond_kwargs=dict(text_embeds=pool, time_ids=sizes),
            ).sample
        each = (out.float() - noise).square().mean((1, 2, 3))
        optimizer.zero_grad()
        (each * weights[t]).mean().mul(2).backward()
        progress = average_gradients(parameters, clock.done)
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        for group in optimizer.param_groups:
            group["lr"] = RATE * clock.factor(progress)
        optimizer.step()
        ema.update()
        steps += 1
        losses.append(each.mean().item())
        if RANK == 0 and len(losses) == 100:
            print(
                f"{steps} t={clock.elapsed:.0f}s samples {steps * BATCH * WORLD} "
                f"eps mse {sum(losses) / 100:.4f} rate {RATE * clock.factor(progress):.1e}",
                flush=True,
            )
            losses = []
        if RANK == 0 and time.time() - last > 240:
            save()
            last = time.time()
    if RANK == 0:
        save()
        print("done", steps, "steps", steps * BATCH * WORLD, "samples")


if __name__ == "__main__":
    cache() if sys.argv[1:] == ["cache"] else main(float(sys.argv[1]))
