"""A tiny SDXL pipeline and CLIP with random weights, and DRTune gradients of them by PyTorch's own tape.

usage: python make_drtune.py TOKENIZER_FOLDER      (torch 2.x, diffusers 0.42, transformers 5, peft 0.21; CPU, float32)
TOKENIZER_FOLDER holds a CLIP tokenizer (resources/starter/clip). Writes beside this file: pipeline/, clip/, lora.safetensors
(B not zero, else dA = 0 proves nothing) and cases.safetensors with, for every case, the noise [B,4,h,w], reward, x0 and the
gradient of every LoRA parameter, keyed CASE/unet.<path>.lora_A.weight. The configs of the cases are in its metadata; case
"clipped" has clip_sample true in its scheduler's settings, a sampler that is not linear.
The algorithm here is the plain one: the network's input detached, outputs of untrained steps detached, the recursion not.
"""
import json, os, sys
import torch, torch.nn.functional as F
from diffusers import AutoencoderKL, DDIMScheduler, EulerDiscreteScheduler, StableDiffusionXLPipeline, UNet2DConditionModel
from peft import LoraConfig
from safetensors.torch import save_file
from transformers import CLIPConfig, CLIPModel, CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer, CLIPImageProcessor

HERE = os.path.dirname(os.path.abspath(__file__))
torch.manual_seed(11)
SIZES = dict(max_position_embeddings=32, layer_norm_eps=1e-5, bos_token_id=0, eos_token_id=0, pad_token_id=0)


def randomise(module, gain=1.0):
    """Weights that are neither zero nor tiny, so that no part of the gradient vanishes."""
    g = torch.Generator().manual_seed(3)
    with torch.no_grad():
        for name, p in module.named_parameters():
            fan = p[0].numel() if p.dim() > 1 else 1
            if p.dim() > 1: p.copy_(torch.randn(p.shape, generator=g) * gain / fan ** 0.5)
            elif "norm" in name and name.endswith("weight"): p.copy_(1 + 0.2 * torch.randn(p.shape, generator=g))
            else: p.copy_(0.1 * torch.randn(p.shape, generator=g))
    return module.eval().requires_grad_(False)


def build(tokenizer_folder):
    tokenizer = CLIPTokenizer.from_pretrained(tokenizer_folder, model_max_length=32)
    ids = dict(SIZES, vocab_size=len(tokenizer), bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id)
    text = lambda width, heads, layers, proj, act: CLIPTextConfig(hidden_size=width, intermediate_size=2 * width, num_hidden_layers=layers, num_attention_heads=heads, projection_dim=proj, hidden_act=act, **ids)
    unet = UNet2DConditionModel(
        sample_size=8, block_out_channels=(8, 16), layers_per_block=1, down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"), attention_head_dim=(2, 4), transformer_layers_per_block=(1, 2), cross_attention_dim=24,
        use_linear_projection=True, norm_num_groups=4, addition_embed_type="text_time", addition_time_embed_dim=4, projection_class_embeddings_input_dim=6 * 4 + 12)
    vae = AutoencoderKL(block_out_channels=(8, 8, 16), down_block_types=("DownEncoderBlock2D",) * 3, up_block_types=("UpDecoderBlock2D",) * 3, layers_per_block=1, norm_num_groups=4, latent_channels=4, sample_size=32, scaling_factor=0.5)
    scheduler = EulerDiscreteScheduler(beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1, timestep_spacing="leading")
    pipe = StableDiffusionXLPipeline(
        vae=randomise(vae), unet=randomise(unet, 0.6), text_encoder=randomise(CLIPTextModel(text(8, 2, 2, 8, "quick_gelu"))),
        text_encoder_2=randomise(CLIPTextModelWithProjection(text(16, 2, 2, 12, "gelu"))), tokenizer=tokenizer, tokenizer_2=tokenizer, scheduler=scheduler)
    pipe.save_pretrained(os.path.join(HERE, "pipeline"), safe_serialization=True)
    path = os.path.join(HERE, "pipeline", "scheduler", "scheduler_config.json")
    settings = {**json.load(open(path)), "clip_sample": False, "set_alpha_to_one": False}      # as in SDXL 1.0
    json.dump(settings, open(path, "w"), indent=1)
    config = CLIPConfig(text_config=text(16, 2, 2, 10, "quick_gelu").to_dict(), projection_dim=10, vision_config=dict(
        hidden_size=12, intermediate_size=24, num_hidden_layers=2, num_attention_heads=2, image_size=20, patch_size=5, projection_dim=10, hidden_act="quick_gelu"))
    clip = randomise(CLIPModel(config))
    folder = os.path.join(HERE, "clip")
    clip.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    CLIPImageProcessor(size={"shortest_edge": 20}, crop_size={"height": 20, "width": 20}).save_pretrained(folder)
    return pipe, clip


def reward_of(clip, tokenizer, terms, pictures, prompts):
    """Mean over the batch of the weighted sum; pictures [B,3,H,W] in [0,1]."""
    total = 0
    for term in terms:
        if term["name"] == "symmetry": value = -(pictures - pictures.flip(-1)).abs().mean((1, 2, 3))
        else:
            h, w = pictures.shape[2:]
            x = F.interpolate(pictures, (20, 20 * w // h) if h <= w else (20 * h // w, 20), mode="bicubic", antialias=True, align_corners=False)
            top, left = (x.shape[2] - 20) // 2, (x.shape[3] - 20) // 2
            mu, sd = (torch.tensor(v).view(1, 3, 1, 1) for v in ([.48145466, .4578275, .40821073], [.26862954, .26130258, .27577711]))
            ids = tokenizer(prompts, padding="max_length", truncation=True, max_length=32, return_tensors="pt")["input_ids"]
            out = clip(input_ids=ids, pixel_values=(x[:, :, top:top + 20, left:left + 20] - mu) / sd)
            value = (out.image_embeds * out.text_embeds).sum(-1)
        if "target" in term: value = value.clamp(max=term["target"])
        total = total + term["weight"] * value
    return total.mean()


def gradient(pipe, clip, config, changes):
    T, B, G = config["steps"], config["batch"], config["guidance"]
    h, w = config["height"] // 4, config["width"] // 4
    prompts = [config["prompts"][i % len(config["prompts"])] for i in range(B)]
    noise = torch.cat([torch.randn(1, 4, h, w, generator=torch.Generator().manual_seed(config["seed"] + i)) for i in range(B)])
    guided = G > 1
    with torch.no_grad():
        c, n, cp, np_ = pipe.encode_prompt(prompts, do_classifier_free_guidance=guided, negative_prompt=[config["negativePrompt"]] * B if guided and config["negativePrompt"] else None)
    if guided: c, cp = torch.cat([n, c]), torch.cat([np_, cp])
    ids = torch.tensor([[config["height"], config["width"], 0, 0, config["height"], config["width"]]], dtype=torch.float32).expand(len(c), -1)
    kind = DDIMScheduler if config["scheduler"] == "ddim" else EulerDiscreteScheduler
    settings = json.load(open(os.path.join(HERE, "pipeline", "scheduler", "scheduler_config.json")))
    scheduler = kind.from_config({**settings, **changes})
    scheduler.set_timesteps(T)
    stop = config["earlyStopStep"]
    x, kl, x0 = noise * scheduler.init_noise_sigma, 0, None
    trained = [t for t in config["trainedStepList"] if t >= max(1, stop)]
    for i, timestep in enumerate(scheduler.timesteps):
        left = T - i
        seen = scheduler.scale_model_input(x, timestep).detach()
        net = lambda: pipe.unet(torch.cat([seen, seen]) if guided else seen, timestep, c, added_cond_kwargs=dict(text_embeds=cp, time_ids=ids)).sample
        with torch.set_grad_enabled(left in trained): branches = net()
        if left in trained and config["kl"] > 0:
            pipe.unet.disable_adapters()
            with torch.no_grad(): base = net()
            pipe.unet.enable_adapters()
            kl = kl + (branches - base).square().mean() / len(trained)
        if guided:
            a, b = branches.chunk(2)
            branches = a + G * (b - a)
        out = scheduler.step(branches, timestep, x)
        x = out.pred_original_sample if left == stop else out.prev_sample
        if left == stop: break
    pictures = (pipe.vae.decode(x / pipe.vae.config.scaling_factor).sample / 2 + 0.5).clamp(0, 1)
    reward = reward_of(clip, pipe.tokenizer, config["rewards"], pictures, prompts)
    parameters = {k: p for k, p in pipe.unet.named_parameters() if p.requires_grad}
    grads = torch.autograd.grad(reward - config["kl"] * kl, list(parameters.values()))
    return noise, reward, x, {k.replace(".default", ""): g for k, g in zip(parameters, grads)}


BASE = dict(model="pipeline", prompts=["a red apple on a table", "two blue cats", "the house"], negativePrompt="", width=32, height=24, scheduler="ddim", steps=5,
            guidance=5.0, trainedStepList=[1, 3, 4], earlyStopStep=0, rewards=[dict(name="symmetry", weight=1.0)], batch=2, kl=0.0, seed=5, lora=dict(rank=3, alpha=6))
BOTH = [dict(name="symmetry", weight=0.7), dict(name="clipscore", weight=-1.3, model="clip")]
CASES = {
    "plain": {},
    "no-guidance": dict(guidance=1.0, batch=1, width=24, height=32),
    "stop-trained": dict(earlyStopStep=3, rewards=BOTH),
    "stop-untrained": dict(earlyStopStep=2, rewards=BOTH, negativePrompt="a cat"),
    "clip-and-kl": dict(kl=0.5, rewards=BOTH, batch=3, guidance=3.0),
    "clipped": dict(rewards=BOTH, guidance=2.0),
    "euler": dict(scheduler="euler", trainedStepList=[2, 5], rewards=BOTH),
}

if __name__ == "__main__":
    pipe, clip = build(sys.argv[1])
    pipe.unet.add_adapter(LoraConfig(r=3, lora_alpha=6, target_modules=["to_q", "to_k", "to_v", "to_out.0"]))
    g = torch.Generator().manual_seed(17)
    lora = {}
    for name, p in pipe.unet.named_parameters():
        if not p.requires_grad: continue
        with torch.no_grad(): p.copy_(torch.randn(p.shape, generator=g) * 0.1)
        lora["unet." + name.replace(".default", "")] = p.detach().clone()
    save_file(lora, os.path.join(HERE, "lora.safetensors"))
    out, configs = {}, {}
    for case, change in CASES.items():
        config = {**BASE, **change}
        noise, reward, x0, grads = gradient(pipe, clip, config, {"clip_sample": True} if case == "clipped" else {})
        out[f"{case}/noise"], out[f"{case}/reward"], out[f"{case}/x0"] = noise, reward.detach().reshape(1), x0.detach()
        for k, v in grads.items(): out[f"{case}/unet.{k}"] = v
        configs[case] = config
        print(case, "reward %.5f" % reward.item(), "gradient norm %.4g" % sum(v.square().sum() for v in grads.values()).sqrt())
    save_file({k: v.contiguous() for k, v in out.items()}, os.path.join(HERE, "cases.safetensors"), metadata=dict(script="test/golden/drtune/make_drtune.py", torch=torch.__version__, configs=json.dumps(configs)))
