"""Measures an exported model on fresh compositions and draws samples.png.

usage: evaluate.py [FOLDER]     (default: the folder above the recipe)"""

import json
import random
import sys
from pathlib import Path

import torch
import torch.nn.functional as F
from diffusers import DDIMScheduler, StableDiffusionXLPipeline
from transformers import CLIPModel, CLIPTextModelWithProjection

from common import COLORS, HERE, STYLES, WORK, caption, compose, load_sprites, names, psnr, save_grid, scenes
from train_clip import concept_accuracy, images, texts
from train_unet import alphas_cumprod, encode_text

SEED, STEPS, GUIDANCE = 77, 25, 5.0
SHOWN = [
    "red apple",
    "pizza",
    "cat face",
    "frog",
    "butterfly",
    "cactus",
    "sunflower",
    "house",
    "panda",
    "robot",
    "hamburger",
    "parrot",
    "sailboat",
    "rocket",
    "fish",
    "snail",
    "duck",
    "elephant",
    "teapot",
    "guitar",
    "whale",
    "tractor",
    "turtle",
    "carrot",
]


def load(folder):
    pipe = StableDiffusionXLPipeline.from_pretrained(
        folder / "pipeline", dtype=torch.float32, add_watermarker=False
    )
    pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config)
    pipe.set_progress_bar_config(disable=True)
    return pipe, CLIPModel.from_pretrained(folder / "clip", dtype=torch.float32).eval()


def sample(pipe, prompts, seed):
    """DDIM pictures in [-1, 1]; picture i starts from seed + i."""
    out = []
    for i in range(0, len(prompts), 16):
        part = prompts[i : i + 16]
        generators = [torch.Generator().manual_seed(seed + i + k) for k in range(len(part))]
        out.append(
            pipe(
                part,
                num_inference_steps=STEPS,
                guidance_scale=GUIDANCE,
                height=64,
                width=64,
                output_type="pt",
                generator=generators,
            ).images
        )
    return torch.cat(out).float() * 2 - 1


@torch.no_grad()
def eps_error(pipe, items, sprites):
    """Mean squared eps error over evenly spaced timesteps, with the caption and without guidance."""
    index = [i for i in range(len(items))] * 4
    captions, numbers = scenes(items, index)
    alphas, total = alphas_cumprod(), []
    for i in range(0, len(index), 64):
        x = compose(sprites[index[i : i + 64]], numbers[i : i + 64])
        z = pipe.vae.encode(x).latent_dist.mean * pipe.vae.config.scaling_factor
        hidden, pooled = encode_text(
            captions[i : i + 64], pipe.tokenizer, pipe.tokenizer_2, pipe.text_encoder, pipe.text_encoder_2
        )
        t = torch.linspace(0, 999, len(z)).long()
        a, noise = alphas[t].view(-1, 1, 1, 1), torch.randn_like(z)
        sizes = torch.tensor([[64.0, 64, 0, 0, 64, 64]]).expand(len(z), -1)
        out = pipe.unet(
            a.sqrt() * z + (1 - a).sqrt() * noise,
            t,
            hidden,
            added_cond_kwargs=dict(text_embeds=pooled, time_ids=sizes),
        ).sample
        total.append(F.mse_loss(out, noise).item())
    return sum(total) / len(total)


@torch.no_grad()
def recognised(pipe, clip, te1):
    """By concept, the share of generated pictures whose own concept the CLIP ranks first among all, all else given;
    and the mean CLIPScore."""
    hits, scores = {n: [] for n in names()}, []
    for style in ("3d", "flat"):
        for background in random.sample(list(COLORS), 4):
            every = [caption(n, style, background=background, template=STYLES[style][0]) for n in names()]
            im = images(clip, sample(pipe, every, random.randrange(10**6)))
            similarity = im @ texts(clip, te1, every)[0].T
            for k, n in enumerate(names()):
                hits[n].append(float(similarity[k].argmax() == k))
            scores.append(similarity.diagonal().mean().item())
    return {n: sum(v) / len(v) for n, v in hits.items()}, sum(scores) / len(scores)


def main(folder):
    random.seed(SEED)
    torch.manual_seed(SEED)
    pipe, clip = load(folder)
    te1 = CLIPTextModelWithProjection.from_pretrained(WORK / "te1_projected").eval()
    items, sprites = load_sprites(("3d", "flat"))
    every_item, every_sprite = load_sprites()
    with torch.no_grad():
        x = compose(sprites.repeat(4, 1, 1, 1), scenes(items, list(range(len(items))) * 4)[1])
        r = torch.cat([pipe.vae.decode(pipe.vae.encode(p).latent_dist.mean).sample for p in x.split(64)])
    report = {"psnr": round(psnr(r, x), 2), "epsMse": round(eps_error(pipe, items, sprites), 4)}
    top, top_1, by_concept = concept_accuracy(clip, te1, every_item, every_sprite, rounds=3)
    report |= {
        "clipTop1": round(top, 3),
        "textEncoderTop1": round(top_1, 3),
        "clipTop1ByConcept": {n: round(v, 2) for n, v in by_concept.items()},
    }
    made, score = recognised(pipe, clip, te1)
    report |= {
        "sampleTop1": round(sum(made.values()) / len(made), 3),
        "sampleClipScore": round(score, 3),
        "sampleTop1ByConcept": {n: round(v, 2) for n, v in made.items()},
    }
    styles, colors = ["3d", "flat"], list(COLORS)
    shown = [
        caption(
            n,
            styles[(i + r) % 2],
            background=colors[(5 * i + 3 * r) % len(colors)],
            template=STYLES[styles[(i + r) % 2]][0],
        )
        for r in range(2)
        for i, n in enumerate(SHOWN)
    ]
    save_grid(sample(pipe, shown, 1000), folder / "samples.png", columns=12)
    (WORK / "report.json").write_text(json.dumps(report, indent=2))
    print(json.dumps(report, indent=1))


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE.parent)
