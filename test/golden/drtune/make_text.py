"""DRTune gradients of LoRA in the text encoders by PyTorch's own tape, on the tiny pipelines of this folder and of architectures/sd1.

    python make_text.py          (torch 2.15, diffusers 0.42.1, transformers 5.23, peft 0.21; CPU, float32)

Writes text-sdxl.safetensors and text-sd1.safetensors (the LoRA, B not zero, as diffusers' save_lora_weights writes it) and text.safetensors: for both
the noise, reward, x0 and the gradient of every matrix, keyed CASE/<key in the LoRA file>. The configs are in its metadata.
"""
import json, os, shutil, sys
HERE = os.path.dirname(os.path.abspath(__file__))
sys.path.insert(0, HERE)
import torch
from diffusers import DDIMScheduler, StableDiffusionPipeline, StableDiffusionXLPipeline
from diffusers.utils import convert_state_dict_to_diffusers
from peft import LoraConfig
from peft.utils import get_peft_model_state_dict
from safetensors.torch import load_file, save_file

BASE = dict(prompts=["a red apple on a table", "two blue cats"], negativePrompt="ugly", width=32, height=24, scheduler="ddim", steps=4, guidance=3.0, trainedStepList=[1, 3], earlyStopStep=0,
            rewards=[dict(name="symmetry", weight=1.0)], batch=2, seed=5, lora=dict(rank=2, alpha=3, textEncoder=True, targets=["attn2.to_k"]))
CASES = {"sdxl": {}, "sd1": dict(width=48, height=64, guidance=2.0, kl=0.3)}


def load(case):
    if case == "sdxl":
        pipe = StableDiffusionXLPipeline.from_pretrained(f"{HERE}/pipeline", add_watermarker=False)
    else:
        folder, whole = f"{HERE}/../architectures/sd1", f"{HERE}/.whole"
        shutil.rmtree(whole, ignore_errors=True)
        shutil.copytree(folder, whole)
        for file in ("vocab.json", "merges.txt"): shutil.copy(f"{folder}/../tokenizer/{file}", f"{whole}/tokenizer/{file}")
        pipe = StableDiffusionPipeline.from_pretrained(whole, torch_dtype=torch.float32, safety_checker=None)
        shutil.rmtree(whole)
    for part in (pipe.unet, pipe.vae, pipe.text_encoder, getattr(pipe, "text_encoder_2", None)):
        if part is not None: part.requires_grad_(False)
    return pipe


def gradient(case, pipe, config):
    T, B, G, f = config["steps"], config["batch"], config["guidance"], pipe.vae_scale_factor
    h, w = config["height"] // f, config["width"] // f
    prompts, negative = config["prompts"], [config["negativePrompt"]] * B
    noise = torch.cat([torch.randn(1, 4, h, w, generator=torch.Generator().manual_seed(config["seed"] + i)) for i in range(B)])
    parts = [p for p in (pipe.unet, pipe.text_encoder, getattr(pipe, "text_encoder_2", None)) if p is not None]

    def told():
        if case == "sd1":
            c, n = pipe.encode_prompt(prompts, "cpu", 1, True, negative_prompt=negative)
            return torch.cat([n, c]), {}
        c, n, cp, np_ = pipe.encode_prompt(prompts, do_classifier_free_guidance=True, negative_prompt=negative)
        ids = torch.tensor([[config["height"], config["width"], 0, 0, config["height"], config["width"]]], dtype=torch.float32).expand(2 * B, -1)
        return torch.cat([n, c]), dict(added_cond_kwargs=dict(text_embeds=torch.cat([np_, cp]), time_ids=ids))

    def off(change):
        for part in parts: (part.disable_adapters if change else part.enable_adapters)()

    text, more = told()
    if config.get("kl"):
        off(True)
        with torch.no_grad(): base_text, base_more = told()
        off(False)
    scheduler = DDIMScheduler.from_config({**pipe.scheduler.config, "clip_sample": False} if case == "sdxl" else pipe.scheduler.config)
    scheduler.set_timesteps(T)
    x, kl = noise * scheduler.init_noise_sigma, 0
    for i, timestep in enumerate(scheduler.timesteps):
        trained = T - i in config["trainedStepList"]
        seen = torch.cat([x, x]).detach()
        branches = pipe.unet(seen, timestep, text, **more).sample
        if not trained: branches = branches.detach()
        elif config.get("kl"):
            off(True)
            with torch.no_grad(): base = pipe.unet(seen, timestep, base_text, **base_more).sample
            off(False)
            kl = kl + (branches - base).square().mean() / len(config["trainedStepList"])
        a, b = branches.chunk(2)
        x = scheduler.step(a + G * (b - a), timestep, x).prev_sample
    pictures = (pipe.vae.decode(x / pipe.vae.config.scaling_factor).sample / 2 + 0.5).clamp(0, 1)
    reward = -(pictures - pictures.flip(-1)).abs().mean((1, 2, 3)).mean()
    parameters = [p for part in parts for p in part.parameters() if p.requires_grad]
    (reward - config.get("kl", 0) * kl).backward()
    for p in parameters:
        with torch.no_grad(): p.copy_(torch.zeros_like(p) if p.grad is None else p.grad)
    return noise, reward.detach(), x.detach()


def layers(pipe):
    state = lambda part: convert_state_dict_to_diffusers(get_peft_model_state_dict(part))
    more = {"text_encoder_2_lora_layers": state(pipe.text_encoder_2)} if hasattr(pipe, "text_encoder_2") else {}
    return dict(unet_lora_layers=get_peft_model_state_dict(pipe.unet), text_encoder_lora_layers=state(pipe.text_encoder), **more)


if __name__ == "__main__":
    torch.set_num_threads(1)
    out, configs = {}, {}
    for case, change in CASES.items():
        pipe, config = load(case), {**BASE, **change}
        pipe.unet.add_adapter(LoraConfig(r=2, lora_alpha=3, target_modules=["attn2.to_k"]))
        for part in (pipe.text_encoder, getattr(pipe, "text_encoder_2", None)):
            if part is not None: part.add_adapter(LoraConfig(r=2, lora_alpha=3, target_modules=["q_proj", "k_proj", "v_proj", "out_proj"]))
        g = torch.Generator().manual_seed(17)
        for part in (pipe.unet, pipe.text_encoder, getattr(pipe, "text_encoder_2", None)):
            for p in part.parameters() if part is not None else []:
                if p.requires_grad:
                    with torch.no_grad(): p.copy_(torch.randn(p.shape, generator=g) * 0.15)
        pipe.save_lora_weights(HERE, weight_name=f"text-{case}.safetensors", **layers(pipe))
        noise, reward, x0 = gradient(case, pipe, config)
        pipe.save_lora_weights(HERE, weight_name="gradient.safetensors", **layers(pipe))  # the gradients stand in the matrices now
        out |= {f"{case}/noise": noise, f"{case}/reward": reward.reshape(1), f"{case}/x0": x0, **{f"{case}/{k}": v for k, v in load_file(f"{HERE}/gradient.safetensors").items()}}
        os.remove(f"{HERE}/gradient.safetensors")
        configs[case] = config
        print(case, float(reward), {k: round(float(v.norm()), 6) for k, v in list(out.items())[-3:]})
    save_file({k: v.contiguous() for k, v in out.items()}, f"{HERE}/text.safetensors", metadata=dict(script="test/golden/drtune/make_text.py", torch=torch.__version__, configs=json.dumps(configs)))
