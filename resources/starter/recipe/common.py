"""What all scripts share: folders, concepts, captions, composing pictures from sprites, and wall-clock schedules."""

import json
import math
import os
import random
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", 2)))

HERE = Path(__file__).resolve().parent
WORK = Path(os.environ.get("STARTER_WORK", HERE / "work"))  # data and intermediate results
CONCEPTS = json.loads((HERE / "concepts.json").read_text())  # our name -> emojibase label, in two groups
RES = 64

# caption templates by style; {} is the object with its article, {n} without
STYLES = {
    "3d": ["a 3d render of {}", "a 3d render of {}", "a 3d {n}", "a glossy 3d icon of {}"],
    "flat": ["a flat icon of {}", "a flat icon of {}", "a flat {n}", "a flat vector drawing of {}"],
    "cartoon": ["a cartoon of {}", "a cartoon drawing of {}", "a cartoon {n}"],
}
COLORS = {
    "white": (250, 250, 250),
    "black": (15, 15, 15),
    "gray": (128, 128, 128),
    "red": (220, 40, 45),
    "orange": (245, 140, 30),
    "yellow": (250, 220, 50),
    "green": (60, 170, 70),
    "blue": (45, 95, 220),
    "purple": (130, 60, 180),
    "pink": (250, 150, 190),
    "brown": (125, 80, 45),
    "teal": (30, 165, 165),
}
SIZES = {
    "": (0.74, 0.86),
    "small ": (0.42, 0.52),
    "big ": (0.94, 1.02),
}  # adjective -> share of the picture's side
MIRROR_SHARE = 0.10  # pictures in which one half of the object is reflected onto the other


def names(group=None):
    """Concept names of one group ("train" or "heldOut") or of both."""
    return list(CONCEPTS[group]) if group else [*CONCEPTS["train"], *CONCEPTS["heldOut"]]


def with_article(noun):
    return ("an " if noun[0] in "aeiou" and not noun.startswith("uni") else "a ") + noun


def caption(name, style, size="", background=None, template=None):
    """For example: a 3d render of a small red apple on a blue background."""
    noun = size + name
    text = (template or random.choice(STYLES[style])).format(with_article(noun), n=noun)
    return text + (f" on {with_article(background)} background" if background else "")


def load_sprites(styles=tuple(STYLES)):
    """Items (name, style) and their sprites as premultiplied RGBA, [N, 4, S, S] in [0, 1]."""
    items = json.loads((WORK / "items.json").read_text())
    keep = [i for i, item in enumerate(items) if item["style"] in styles]
    x = torch.from_numpy(np.load(WORK / "sprites.npz")["x"][keep]).float() / 255
    rgb, alpha = x[..., :3], x[..., 3:]
    return [items[i] for i in keep], torch.cat([rgb * alpha, alpha], -1).permute(0, 3, 1, 2).contiguous()


ANY = object()


def scene(item, flip=0.0, size=ANY, background=ANY, mirror=MIRROR_SHARE):
    """A caption for a sprite and the numbers that compose its picture.

    These are: scale x, scale y, shift x, shift y, background red, green, blue,
    mirrored half (0 none, 1 left, 2 right)."""
    if size is ANY:
        size = random.choices(list(SIZES), [0.8, 0.1, 0.1])[0]
    if background is ANY:
        background = random.choice(list(COLORS)) if random.random() < 0.85 else None
    scale = random.uniform(*SIZES[size])
    margin = min(0.06, max(0, 1 - scale) / 2)
    half = random.choice([1, 2]) if random.random() < mirror else 0
    shift_x = 0.0 if half else random.uniform(-margin, margin)
    rgb = [min(255, max(0, v + random.gauss(0, 7))) / 255 for v in COLORS[background or "white"]]
    sign = -1 if random.random() < flip else 1
    return caption(item["name"], item["style"], size, background), [
        sign * scale,
        scale,
        shift_x,
        random.uniform(-margin, margin),
        *rgb,
        half,
    ]


def scenes(items, index, flip=0.0, **fixed):
    """Captions and one [len(index), 8] tensor of composing numbers."""
    captions, numbers = zip(*[scene(items[i], flip, **fixed) for i in index])
    return list(captions), torch.tensor(numbers, dtype=torch.float32)


def compose(sprites, numbers):
    """RGB pictures in [-1, 1], [N, 3, RES, RES]."""
    half = numbers[:, 7].view(-1, 1, 1, 1)
    flipped, left = (
        sprites.flip(-1),
        torch.arange(sprites.shape[-1]).view(1, 1, 1, -1) < sprites.shape[-1] // 2,
    )
    sprites = torch.where(((half == 1) & ~left) | ((half == 2) & left), flipped, sprites)
    sx, sy, tx, ty = numbers[:, :4].T
    zero = torch.zeros_like(sx)
    theta = torch.stack(
        [torch.stack([1 / sx, zero, -tx / sx], 1), torch.stack([zero, 1 / sy, -ty / sy], 1)], 1
    )
    x = F.grid_sample(
        sprites, F.affine_grid(theta, (len(numbers), 4, RES, RES), align_corners=False), align_corners=False
    )
    return (x[:, :3] + (1 - x[:, 3:]) * numbers[:, 4:7, None, None]).clamp(0, 1) * 2 - 1


def psnr(x, y):
    """Peak signal-to-noise ratio in dB of pictures in [-1, 1]."""
    return -10 * math.log10(F.mse_loss(x.clamp(-1, 1), y).item() / 4)


class Clock:
    """Progress by wall-clock time, so that a busy machine cannot cut a schedule off.

    Linear warm-up, then cosine down to 2 %."""

    def __init__(self, minutes, warm_up=0.02):
        self.start, self.seconds, self.warm_up = time.time(), minutes * 60, warm_up

    @property
    def done(self):
        return min(1.0, (time.time() - self.start) / self.seconds)

    @property
    def elapsed(self):
        return time.time() - self.start

    def factor(self, done=None):
        f = self.done if done is None else done
        if f < self.warm_up:
            return max(0.01, f / self.warm_up)
        return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * (f - self.warm_up) / (1 - self.warm_up)))


class Ema:
    """Exponential moving average of parameters, with the usual ramp at the start."""

    def __init__(self, parameters, decay=0.998):
        self.parameters, self.decay, self.step = list(parameters), decay, 0
        self.average = [p.detach().clone() for p in self.parameters]

    @torch.no_grad()
    def update(self):
        self.step += 1
        torch._foreach_lerp_(
            self.average, self.parameters, 1 - min(self.decay, (1 + self.step) / (10 + self.step))
        )

    @torch.no_grad()
    def swap(self):
        """Exchanges the parameters and their average; call it twice to come back."""
        for p, a in zip(self.parameters, self.average):
            t = p.clone()
            p.copy_(a)
            a.copy_(t)


def save_grid(x, path, columns=8, scale=2):
    """Pictures in [-1, 1] as one PNG."""
    from PIL import Image

    x = ((x.clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).cpu().numpy()
    n, h, w, _ = x.shape
    canvas = np.full((-(-n // columns) * (h + 2), columns * (w + 2), 3), 255, np.uint8)
    for i in range(n):
        r, c = divmod(i, columns)
        canvas[r * (h + 2) : r * (h + 2) + h, c * (w + 2) : c * (w + 2) + w] = x[i]
    image = Image.fromarray(canvas)
    image = image.resize((image.width * scale, image.height * scale), Image.NEAREST)
    image.quantize(256, dither=Image.Dither.NONE).save(path, optimize=True)
