"""A small CLIP and a second text tower.

The CLIP's picture tower + text tower are the CLIPScore reward; its text tower is also text_encoder_2. The second text
tower (text_encoder) learns on the detached picture embedding. Half of the pictures come in groups that hold every
concept once, on the same background, in the same style and size, so that only the shape tells them apart.

usage: train_clip.py MINUTES"""

import json
import random
import sys
import time

import torch
import torch.nn.functional as F
from transformers import (
    CLIPConfig,
    CLIPModel,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
)

from common import COLORS, SIZES, STYLES, WORK, Clock, Ema, caption, compose, load_sprites, names, scenes

RATE, FREE = 1e-3, 48  # learning rate; pictures without a group, per batch
BATCH = FREE + len(names())
tokenizer = CLIPTokenizer.from_pretrained(WORK / "tokenizer")
TEXT = dict(
    vocab_size=len(tokenizer),
    max_position_embeddings=32,
    bos_token_id=tokenizer.bos_token_id,
    eos_token_id=tokenizer.eos_token_id,
    hidden_act="gelu",
    projection_dim=128,
)
TEXT_1 = dict(
    hidden_size=64,
    intermediate_size=256,
    num_hidden_layers=3,
    num_attention_heads=2,
    pad_token_id=tokenizer.pad_token_id,
    **TEXT,
)
TEXT_2 = dict(
    hidden_size=128, intermediate_size=512, num_hidden_layers=4, num_attention_heads=4, pad_token_id=0, **TEXT
)
VISION = dict(
    hidden_size=128,
    intermediate_size=512,
    num_hidden_layers=4,
    num_attention_heads=4,
    image_size=64,
    patch_size=8,
    hidden_act="gelu",
    projection_dim=128,
)
PREPROCESSOR = dict(
    crop_size={"height": 64, "width": 64},
    do_center_crop=True,
    do_convert_rgb=True,
    do_normalize=True,
    do_rescale=True,
    do_resize=True,
    image_mean=[0.5] * 3,
    image_std=[0.5] * 3,
    resample=3,
    rescale_factor=1 / 255,
    size={"shortest_edge": 64},
    image_processor_type="CLIPImageProcessor",
    feature_extractor_type="CLIPFeatureExtractor",
)


def token_ids(captions):
    """Ids up to and with the first end token of the longest caption."""
    ids = tokenizer(
        captions,
        padding="max_length",
        truncation=True,
        max_length=tokenizer.model_max_length,
        return_tensors="pt",
    )["input_ids"]
    return ids[:, : int((ids != tokenizer.eos_token_id).sum(1).max()) + 1]


def augment(x):
    """Blur, contrast, a dark or light veil, and noise, so that a decoder's artefacts do not throw the score."""

    def chosen(share):
        return (torch.rand(len(x), 1, 1, 1) < share).float() * torch.rand(len(x), 1, 1, 1)

    for _ in range(2):
        m = chosen(0.4)
        x = x * (1 - m) + F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), 3, 1) * m
    x = x * (1 + 0.25 * (chosen(0.4) - chosen(0.4))) + 0.2 * (chosen(0.3) - chosen(0.3))
    return x + torch.randn_like(x) * 0.15 * chosen(0.4)


def draw_group(items, by_name):
    """Every concept once, all else equal."""
    style = random.choice(["3d", "3d", "flat", "flat", "cartoon"])
    fixed = dict(
        size=random.choices(list(SIZES), [0.6, 0.2, 0.2])[0], background=random.choice([None, *COLORS])
    )
    template, index = random.choice(STYLES[style]), [by_name[n, style] for n in names()]
    _, numbers = scenes(items, index, flip=0.5, **fixed)
    return [caption(n, style, fixed["size"], fixed["background"], template) for n in names()], numbers, index


def draw_batch(items, by_name):
    index = random.sample(range(len(items)), FREE)
    captions, numbers = scenes(items, index, flip=0.5)
    more, more_numbers, more_index = draw_group(items, by_name)
    return captions + more, torch.cat([numbers, more_numbers]), index + more_index


def images(clip, x):
    return F.normalize(clip.get_image_features(pixel_values=x).pooler_output, dim=-1)


def texts(clip, te1, captions):
    ids = token_ids(captions)
    return F.normalize(clip.get_text_features(input_ids=ids).pooler_output, dim=-1), F.normalize(
        te1(input_ids=ids).text_embeds, dim=-1
    )


@torch.no_grad()
def concept_accuracy(clip, te1, items, sprites, styles=("3d", "flat"), rounds=1):
    """Share of fresh, unflipped compositions whose own concept wins over all others in the same sentence.

    For both text towers, and by concept for the first."""
    hits = {n: [] for n in names()}
    hits_1 = []
    for style in styles:
        index = [i for i, item in enumerate(items) if item["style"] == style]
        for _ in range(rounds):
            for background in COLORS:
                size = random.choices(list(SIZES), [0.8, 0.1, 0.1])[0]
                _, numbers = scenes(items, index, size=size, background=background, mirror=0)
                im = images(clip, compose(sprites[index], numbers))
                t2, t1 = texts(
                    clip,
                    te1,
                    [caption(items[i]["name"], style, size, background, STYLES[style][0]) for i in index],
                )
                for k, i in enumerate((im @ t2.T).argmax(1).tolist()):
                    hits[items[index[k]]["name"]].append(float(i == k))
                hits_1 += ((im @ t1.T).argmax(1) == torch.arange(len(index))).float().tolist()
    by_concept = {n: sum(v) / len(v) for n, v in hits.items()}
    return sum(by_concept.values()) / len(by_concept), sum(hits_1) / len(hits_1), by_concept


@torch.no_grad()
def save(clip, te1, ema, items, sprites, check):
    ema.swap()
    clip.eval()
    te1.eval()
    captions, numbers = check
    im = torch.cat([images(clip, x) for x in compose(sprites, numbers).split(128)])
    own = torch.tensor([captions.index(c) for c in captions])
    t2, t1 = texts(clip, te1, captions)
    top, top_1, by_concept = concept_accuracy(clip, te1, items, sprites)
    worst = sorted(by_concept.items(), key=lambda kv: kv[1])[:6]
    rate, rate_1 = (((im @ t.T).argmax(1) == own).float().mean() for t in (t2, t1))
    print(
        f"  own caption among {len(captions)}: {rate:.3f} (te1 {rate_1:.3f}); "
        f"concept, all else given: {top:.3f} (te1 {top_1:.3f}); "
        f"weakest {[(n, round(v, 2)) for n, v in worst]}",
        flush=True,
    )
    clip.save_pretrained(WORK / "clip")
    CLIPTextModelWithProjection.from_pretrained(
        WORK / "clip", config=CLIPTextConfig(**TEXT_2)
    ).save_pretrained(WORK / "text_encoder_2")
    te1.save_pretrained(WORK / "te1_projected")
    CLIPTextModel.from_pretrained(WORK / "te1_projected").save_pretrained(WORK / "text_encoder")
    (WORK / "clip/preprocessor_config.json").write_text(json.dumps(PREPROCESSOR, indent=2))
    clip.train()
    te1.train()
    ema.swap()


def both_ways(logits):
    """Pictures to captions and captions to pictures."""
    own = torch.arange(len(logits))
    return (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2


def main(minutes):
    random.seed(2)
    torch.manual_seed(2)
    items, sprites = load_sprites()
    by_name = {(item["name"], item["style"]): i for i, item in enumerate(items)}
    clip = CLIPModel(
        CLIPConfig(
            text_config=TEXT_2, vision_config=VISION, projection_dim=128, logit_scale_init_value=2.6592
        )
    )
    te1 = CLIPTextModelWithProjection(CLIPTextConfig(**TEXT_1))
    clip.set_attn_implementation(
        "eager"
    )  # on a CPU, the backward pass of the fused attention is several times slower
    te1.set_attn_implementation("eager")
    parameters = [*clip.parameters(), *te1.parameters()]
    print(
        "parameters clip",
        sum(p.numel() for p in clip.parameters()),
        "te1",
        sum(p.numel() for p in te1.parameters()),
    )
    optimizer = torch.optim.AdamW(
        [
            dict(params=[p for p in parameters if p.ndim > 1], weight_decay=0.05),
            dict(params=[p for p in parameters if p.ndim < 2], weight_decay=0),
        ],
        lr=RATE,
        betas=(0.9, 0.98),
    )
    check = scenes(items, range(len(items)))
    ema, clock, losses, last = Ema(parameters), Clock(minutes), [], time.time()
    steps = 0
    while clock.done < 1:
        captions, numbers, index = draw_batch(items, by_name)
        x = augment(compose(sprites[index], numbers))
        with torch.autocast("cpu", torch.bfloat16):
            im, (t2, t1) = images(clip, x), texts(clip, te1, captions)
        im, t2, t1 = im.float(), t2.float(), t1.float()
        scale = clip.logit_scale.exp().clamp(max=100)
        logits = scale * im @ t2.T
        group = logits[FREE:, FREE:]  # the hard negatives once more, among themselves
        hard = F.cross_entropy(group, torch.arange(len(group)))
        loss_2, loss_1 = both_ways(logits) + 0.5 * hard, both_ways(scale.detach() * im.detach() @ t1.T)
        optimizer.zero_grad()
        (loss_2 + loss_1).backward()
        torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        for g in optimizer.param_groups:
            g["lr"] = RATE * clock.factor()
        optimizer.step()
        ema.update()
        steps += 1
        losses.append((loss_2.item(), hard.item(), loss_1.item()))
        if len(losses) == 50:
            a = torch.tensor(losses).mean(0).tolist()
            print(
                f"{steps} t={clock.elapsed:.0f}s loss {a[0]:.3f} hard {a[1]:.3f} te1 {a[2]:.3f} "
                f"scale {scale.item():.1f}",
                flush=True,
            )
            losses = []
        if time.time() - last > 180:
            save(clip, te1, ema, items, sprites, check)
            last = time.time()
    save(clip, te1, ema, items, sprites, check)
    print("done", steps, steps * BATCH)


if __name__ == "__main__":
    main(float(sys.argv[1]))
