"""Puts the trained parts together as fp16 folders beside the recipe, and writes prompts.json.

pipeline/ is for diffusers (StableDiffusionXLPipeline), clip/ for transformers (CLIPModel).

usage: export.py [FOLDER]     (default: the folder above the recipe)"""

import json
import random
import shutil
import sys
from pathlib import Path

import torch
from diffusers import AutoencoderKL, EulerDiscreteScheduler, UNet2DConditionModel
from transformers import CLIPModel, CLIPTextModel, CLIPTextModelWithProjection

from common import COLORS, HERE, STYLES, WORK, caption, load_sprites, names
from train_unet import SCHEDULE

MODEL_INDEX = {
    "_class_name": "StableDiffusionXLPipeline",
    "_diffusers_version": "0.42.1",
    "feature_extractor": [None, None],
    "force_zeros_for_empty_prompt": True,
    "image_encoder": [None, None],
    "scheduler": ["diffusers", "EulerDiscreteScheduler"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "text_encoder_2": ["transformers", "CLIPTextModelWithProjection"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "tokenizer_2": ["transformers", "CLIPTokenizer"],
    "unet": ["diffusers", "UNet2DConditionModel"],
    "vae": ["diffusers", "AutoencoderKL"],
}
TOKENIZER_FILES = (
    "vocab.json",
    "merges.txt",
    "special_tokens_map.json",
    "tokenizer_config.json",
    "tokenizer.json",
)


def rewrite(path, change):
    data = json.loads(path.read_text())
    change(data)
    path.write_text(json.dumps(data, indent=2) + "\n")


def copy_tokenizer(name, folder):
    folder.mkdir(parents=True, exist_ok=True)
    for f in TOKENIZER_FILES:
        shutil.copy(WORK / name / f, folder / f)


def export_models(out):
    pipeline = out / "pipeline"
    for part, cls in (
        ("unet", UNet2DConditionModel),
        ("vae", AutoencoderKL),
        ("text_encoder", CLIPTextModel),
        ("text_encoder_2", CLIPTextModelWithProjection),
    ):
        cls.from_pretrained(WORK / part).half().save_pretrained(pipeline / part)
        rewrite(pipeline / part / "config.json", lambda c: c.pop("_name_or_path", None))
    for name in ("tokenizer", "tokenizer_2"):
        copy_tokenizer(name, pipeline / name)
    EulerDiscreteScheduler(**SCHEDULE, timestep_spacing="leading", steps_offset=1).save_pretrained(
        pipeline / "scheduler"
    )
    rewrite(
        pipeline / "scheduler/scheduler_config.json",
        lambda c: c.update(clip_sample=False, set_alpha_to_one=False),
    )  # as in SDXL's own file: for DDIM
    (pipeline / "model_index.json").write_text(json.dumps(MODEL_INDEX, indent=2) + "\n")
    CLIPModel.from_pretrained(WORK / "clip").half().save_pretrained(out / "clip")
    copy_tokenizer("tokenizer_2", out / "clip")
    shutil.copy(WORK / "clip/preprocessor_config.json", out / "clip/preprocessor_config.json")


def fitting_backgrounds(name, items, sprites, nearest=0.35):
    """Backgrounds that the concept stands out from in both styles: their colour is not the object's own mean colour."""
    fitting = list(COLORS)
    for item, sprite in zip(items, sprites, strict=True):
        if item["name"] == name:
            mean = sprite[:3].sum((1, 2)) / sprite[3].sum()
            fitting = [b for b in fitting if (torch.tensor(COLORS[b]) / 255 - mean).norm() > nearest]
    return fitting


def prompts():
    """Three captions for every training concept and two for every concept kept apart, in both styles."""
    random.seed(6)
    items, sprites = load_sprites(("3d", "flat"))

    def some(group, count):
        lines = []
        for name in names(group):
            backgrounds = random.sample(fitting_backgrounds(name, items, sprites), count)
            styles = random.choices(["3d", "flat"], k=1) + ["3d", "flat"] if count > 2 else ["3d", "flat"]
            lines += [
                caption(name, s, background=b, template=STYLES[s][0]) for s, b in zip(styles, backgrounds)
            ]
        return list(dict.fromkeys(lines))

    return {"train": some("train", 3), "heldOut": some("heldOut", 2)}


if __name__ == "__main__":
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else HERE.parent
    export_models(target)
    (target / "prompts.json").write_text(json.dumps(prompts(), indent=2) + "\n")
    print(
        "megabytes",
        round(
            sum(
                f.stat().st_size for d in ("pipeline", "clip") for f in (target / d).rglob("*") if f.is_file()
            )
            / 1e6,
            1,
        ),
    )
