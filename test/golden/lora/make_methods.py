"""DoRA and LoKr as peft has them: their folders, one pass of the network with each and its gradient, on the tiny SD 1.x of architectures/.

    python test/golden/lora/make_methods.py            (torch 2.15, diffusers 0.42.1, transformers 5.23, peft 0.21, CPU, fp32)

Writes dora-sd1/ and lokr-sd1/ (peft), dora-saved-sd1.safetensors (diffusers, text encoder too) and methods.safetensors: sampled latents, and with
`sample`, `text` and `cotangent` the network's output and d <output, cotangent> / d matrix for every matrix, keyed METHOD/<path>.<matrix>.
"""
import json, math, os, sys
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
from make_lora import SD1, here, load, prompt, negative, sample, versions
import torch
from diffusers import StableDiffusionPipeline
from diffusers.training_utils import _collate_lora_metadata
from diffusers.utils import convert_state_dict_to_diffusers
from peft import LoKrConfig, LoraConfig, PeftModel, get_peft_model
from peft.utils import get_peft_model_state_dict
from safetensors.torch import save_file

TARGETS = ["down_blocks.0.attentions.1.transformer_blocks.0.attn1.to_q", "up_blocks.2.attentions.0.transformer_blocks.0.attn2.to_k", "mid_block.attentions.0.transformer_blocks.0.ff.net.0.proj",
           "mid_block.attentions.0.proj_in", "conv_in", "down_blocks.1.resnets.0.conv1", "mid_block.resnets.0.time_emb_proj", "down_blocks.0.downsamplers.0.conv", "up_blocks.1.resnets.1.conv_shortcut"]
CONFIGS = {
    "dora": lambda: LoraConfig(r=2, lora_alpha=3, target_modules=TARGETS, use_dora=True),
    "lokr": lambda: LoKrConfig(r=2, alpha=3, target_modules=TARGETS),
}


def randomise(model, seed):
    """Moves every matrix away from where it begins; magnitudes by a fifth."""
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in model.named_parameters():
            noise = torch.randn(p.shape, generator=g)
            if "magnitude" in name: p.mul_(1 + 0.2 * noise)
            elif "lora_B" in name or "lokr_w1" in name: p.copy_(0.35 * noise)
            elif "lora_A" in name or "lokr_w2" in name: p.copy_(0.6 * noise / math.sqrt(p[0].numel()))


if __name__ == "__main__":
    torch.set_num_threads(1)
    g = torch.Generator().manual_seed(21)
    t = {"sample": torch.randn((2, 4, 6, 5), generator=g), "text": torch.randn((2, 11, 14), generator=g), "cotangent": torch.randn((2, 4, 6, 5), generator=g)}
    for method, config in CONFIGS.items():
        pipe = load(SD1)
        base = pipe.unet.state_dict()
        model = get_peft_model(pipe.unet, config())
        if method == "dora":
            for name, p in model.named_parameters():
                if "magnitude" in name and name.count("conv_in"): t["dora/conv_in norms"] = p.detach().clone().flatten()
        randomise(model, 8)
        folder = f"{here}/{method}-sd1"
        model.save_pretrained(folder)
        if os.path.exists(f"{folder}/README.md"): os.remove(f"{folder}/README.md")
        saved = json.load(open(f"{folder}/adapter_config.json"))
        json.dump({**saved, "target_modules": sorted(saved["target_modules"])}, open(f"{folder}/adapter_config.json", "w"), indent=2)
        out = model(t["sample"], torch.tensor(431), encoder_hidden_states=t["text"]).sample
        t[f"{method}/output"] = out.detach()
        names = {n: p for n, p in model.named_parameters() if p.requires_grad}
        for name, gradient in zip(names, torch.autograd.grad((out * t["cotangent"]).sum(), list(names.values()))):
            # "base_model.model.conv_in.lora_magnitude_vector.default.weight" -> "conv_in.lora_magnitude_vector"
            key = name.removeprefix("base_model.model.").replace("lora_magnitude_vector.default.weight", "lora_magnitude_vector").replace(".default", "")
            t[f"{method}/{key}"] = gradient
        pipe = load(SD1)
        pipe.unet = PeftModel.from_pretrained(pipe.unet, folder).base_model.model
        t[f"{method}-sd1"] = sample(pipe, SD1)
        print(method, len(names), "matrices")

    pipe = load(SD1)
    pipe.unet.add_adapter(LoraConfig(r=2, lora_alpha=3, target_modules=["mid_block.resnets.0.conv1", "mid_block.attentions.0.transformer_blocks.0.attn2.to_q"], use_dora=True))
    pipe.text_encoder.add_adapter(LoraConfig(r=2, lora_alpha=3, target_modules=["layers.1.self_attn.q_proj", "layers.0.self_attn.out_proj"], use_dora=True))
    randomise(pipe.unet, 5); randomise(pipe.text_encoder, 6)
    t["dora-saved-sd1"] = sample(pipe, SD1)
    metadata = _collate_lora_metadata({"unet": pipe.unet, "text_encoder": pipe.text_encoder})
    StableDiffusionPipeline.save_lora_weights(here, unet_lora_layers=get_peft_model_state_dict(pipe.unet), text_encoder_lora_layers=convert_state_dict_to_diffusers(get_peft_model_state_dict(pipe.text_encoder)),
                                              weight_name="dora-saved-sd1.safetensors", **metadata)
    pipe = load(SD1)
    pipe.load_lora_weights(here, weight_name="dora-saved-sd1.safetensors")
    again = sample(pipe, SD1)
    print("diffusers reads its own DoRA back within", float((again - t["dora-saved-sd1"]).norm() / again.norm()))
    t["base.sd1"] = sample(load(SD1), SD1)
    save_file({k: v.contiguous().float() for k, v in t.items()}, f"{here}/methods.safetensors", {**versions, "script": "make_methods.py", "tolerance": "relative L2: 1e-4", "prompt": prompt, "negative": negative})
