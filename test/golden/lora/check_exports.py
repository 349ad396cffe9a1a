"""Loads this app's exports with diffusers and peft and compares what they sample with what the app samples.

    python test/golden/lora/check_exports.py FOLDER         (torch 2.15, diffusers 0.42.1, transformers 5.23, peft 0.21, CPU, fp32)

FOLDER holds base (the base model's folder or a link to it), d.safetensors, k.safetensors, p/, m/ and m.safetensors as `drtune export` wrote
them, and tensors.safetensors with manifest.json as `drtune sample --save-tensors --lora CHECKPOINT` wrote them:

    drtune export --run RUN --format diffusers --out FOLDER/d.safetensors     (kohya: k.safetensors, peft: p, merged: m and m.safetensors)
    drtune sample --model FOLDER/base --lora CHECKPOINT --prompt P --negative N --scheduler ddim --steps 6 --guidance 3 --save-tensors --out FOLDER

Exports that are not there are left out: diffusers reads no LoKr, PEFT's folder holds one network. A kohya file of a DoRA or LoKr, which diffusers does
not read either, is merged here by LyCORIS' formulas (ComfyUI comfy/weight_adapter/base.py weight_decompose, lokr.py). Where the text encoders hold a
DoRA, diffusers 0.42 with transformers 5 loses its magnitudes in loading, so they are set by hand.

Prints one line for each export; exits 1 unless all are below 1e-4 (for merged weights of a base in half precision 5e-3, the app's own bound), and
unless every merged weight is what diffusers' fuse_lora gives, rounded to the base's type, but for a last bit where the sums round differently (for DoRA and
LoKr, whose products round too: eight).
"""
import json, os, sys
os.environ["HF_HUB_OFFLINE"] = "1"
import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline, StableDiffusionXLPipeline
from peft import PeftModel
from safetensors.torch import load_file
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from make_lora import sgm

folder = sys.argv[1]
request = json.load(open(f"{folder}/manifest.json"))
tensors = load_file(f"{folder}/tensors.safetensors")
noise, ours = tensors["noise"], tensors["latents"]
xl = "XL" in json.load(open(f"{folder}/base/model_index.json"))["_class_name"]
cls = StableDiffusionXLPipeline if xl else StableDiffusionPipeline
more = dict(add_watermarker=False) if xl else dict(safety_checker=None)


def base():
    return cls.from_pretrained(f"{folder}/base", torch_dtype=torch.float32, **more)


def sample(pipe):
    pipe.set_progress_bar_config(disable=True)
    pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config)
    factor = pipe.vae_scale_factor
    with torch.no_grad():
        return pipe(request["prompt"], negative_prompt=request["negativePrompt"], height=noise.shape[2] * factor, width=noise.shape[3] * factor, num_inference_steps=request["steps"],
                    guidance_scale=request["guidance"], latents=noise[:1].clone(), output_type="latent").images


def lora(name):
    pipe = base()
    pipe.load_lora_weights(folder, weight_name=name)
    return pipe


def lycoris():
    """W + scale B A, its rows at dora_scale's length; W + scale w1 (x) w2."""
    pipe, state = base(), load_file(f"{folder}/k.safetensors")
    left = {k.split(".")[0] for k in state}
    parts = [("lora_unet_", pipe.unet), ("lora_te1_text_model_" if xl else "lora_te_text_model_", pipe.text_encoder)] + ([("lora_te2_", pipe.text_encoder_2)] if xl else [])
    for prefix, model in parts:
        for path, module in model.named_modules():
            names = [prefix + path.replace(".", "_")] + ([prefix + sgm(path, pipe.unet.config.layers_per_block).replace(".", "_")] if model is pipe.unet else [])
            name = next((n for n in names if n in left), None)
            if name is None or not hasattr(module, "weight"): continue
            left.remove(name)
            own = {k.removeprefix(name + "."): v for k, v in state.items() if k.split(".")[0] == name}
            with torch.no_grad():
                if "lokr_w1" in own:
                    b = own.get("lokr_w2_b")
                    w2 = own["lokr_w2"] if b is None else own["lokr_w2_a"] @ b
                    change = torch.kron(own["lokr_w1"], w2.flatten(1)) * (1 if b is None else own["alpha"] / b.shape[0])
                else: change = own["lora_up.weight"].flatten(1) @ own["lora_down.weight"].flatten(1) * own["alpha"] / own["lora_down.weight"].shape[0]
                weight = module.weight + change.reshape(module.weight.shape)
                if "dora_scale" in own: weight = weight * (own["dora_scale"] / weight.flatten(1).norm(dim=1).reshape(own["dora_scale"].shape))
                module.weight.copy_(weight)
    assert not left, left
    return pipe


def restored(pipe, name):
    """With the magnitudes of the text encoders' DoRA, which loading lost."""
    state = load_file(f"{folder}/{name}")
    for part in ("text_encoder", "text_encoder_2"):
        for path, module in getattr(pipe, part).named_modules() if hasattr(pipe, part) else []:
            key = next((k for k in (f"{part}.{path}.lora_magnitude_vector", f"{part}.text_model.{path}.lora_magnitude_vector") if k in state), None)
            if key and hasattr(module, "lora_magnitude_vector"):
                with torch.no_grad(): next(iter(module.lora_magnitude_vector.values())).weight.copy_(state[key])
    return pipe


def adapter():
    pipe = base()
    pipe.unet = PeftModel.from_pretrained(pipe.unet, f"{folder}/p").base_model.model
    return pipe


special = any("dora_scale" in k or "lokr_" in k for k in load_file(f"{folder}/k.safetensors"))
files = {"diffusers file": "d.safetensors", "PEFT folder": "p"}
cases = {
    "base alone": base,
    "diffusers file": lambda: restored(lora("d.safetensors"), "d.safetensors"),
    "kohya file": lambda: lycoris() if special else lora("k.safetensors"),
    "PEFT folder": adapter,
    "merged folder": lambda: cls.from_pretrained(f"{folder}/m", torch_dtype=torch.float32, **more),
    "merged file": lambda: cls.from_single_file(f"{folder}/m.safetensors", config=f"{folder}/base", torch_dtype=torch.float32, **({} if xl else dict(safety_checker=None))),
}
torch.set_num_threads(1)
merged = load_file(f"{folder}/m/unet/diffusion_pytorch_model.safetensors")
half = any(t.dtype != torch.float32 for t in merged.values())
failed = False
for name, load in cases.items():
    if name in files and not os.path.exists(f"{folder}/{files[name]}"): continue
    latents = sample(load())
    difference = float((latents - ours[:1]).norm() / ours[:1].norm())
    limit = 5e-3 if half and name.startswith("merged") else 1e-4
    good = difference > 0.05 if name == "base alone" else difference < limit
    failed |= not good
    print(f"{name}: differs from the app's by {difference:.2e}{'' if good else '   FAILED'}")

if os.path.exists(f"{folder}/d.safetensors"):
    fused = lora("d.safetensors")
    fused.fuse_lora()
    fused.unload_lora_weights()
else:
    fused = base()
    fused.unet = PeftModel.from_pretrained(fused.unet, f"{folder}/p").merge_and_unload()
original = base().unet.state_dict()
worst, unequal = 0.0, 0
for key, weight in fused.unet.state_dict().items():
    ours, theirs = merged[key], weight.to(merged[key].dtype)
    unequal += int((ours != theirs).sum())
    # the spacing of neighbouring numbers of the type
    size = torch.maximum(theirs.float().abs(), original[key].float().abs()) if special else theirs.float().abs()  # a sum may be small against its terms
    step = torch.finfo(ours.dtype).eps * size.clamp(min=torch.finfo(ours.dtype).tiny)
    worst = max(worst, float(((ours.float() - theirs.float()).abs() / step).max()))
limit = 8 if special else 1.01  # a DoRA's rows are also multiplied by a quotient with a norm in it
failed |= worst > limit
total = sum(t.numel() for t in merged.values())
print(f"merged weights: {unequal} of {total} are not fuse_lora's, by at most {worst:.2f} of a last bit{'' if worst <= limit else '   FAILED'}")
sys.exit(failed)
