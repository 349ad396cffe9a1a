"""A tiny OpenCLIP model with random weights, and its scores. Writes open-clip/ and open-clip.safetensors beside this file.

usage: python make_open_clip.py TOKENIZER_FOLDER    (torch 2.15, torchvision 0.29, open_clip 3.3, ftfy 6.3, transformers 5; CPU, float32)
TOKENIZER_FOLDER holds a CLIP tokenizer (resources/starter/clip); its files go into open-clip/ as on the Hub.
"""
import json, os, shutil, sys
import torch, torch.nn.functional as F
from open_clip.model import CLIP
from open_clip.tokenizer import SimpleTokenizer
from safetensors.torch import load_file, save_file
from torchvision.transforms.functional import center_crop
from transformers import CLIPTokenizer

HERE = os.path.dirname(os.path.abspath(__file__))
torch.manual_seed(5)
folder = os.path.join(HERE, "open-clip")
os.makedirs(folder, exist_ok=True)
tokenizer = CLIPTokenizer.from_pretrained(sys.argv[1])
model_cfg = dict(embed_dim=10, quick_gelu=True, vision_cfg=dict(image_size=20, layers=2, width=12, patch_size=5, head_width=6),
                 text_cfg=dict(context_length=16, vocab_size=len(tokenizer), width=8, heads=2, layers=2))
MEAN, STD = [.48145466, .4578275, .40821073], [.26862954, .26130258, .27577711]
model = CLIP(**model_cfg).eval().requires_grad_(False)
for name, p in model.named_parameters():
    p.copy_(torch.randn(p.shape) * (0.3 if p.dim() > 1 else 0.2) + (1.0 if "ln_" in name and name.endswith("weight") else 0.0))
save_file({k: v.contiguous() for k, v in model.state_dict().items() if k != "attn_mask"}, os.path.join(folder, "open_clip_model.safetensors"))
json.dump(dict(model_cfg=model_cfg, preprocess_cfg=dict(mean=MEAN, std=STD)), open(os.path.join(folder, "open_clip_config.json"), "w"), indent=1)
for name in ("tokenizer.json", "tokenizer_config.json"):
    shutil.copy(os.path.join(sys.argv[1], name), folder)
images = load_file(os.path.join(HERE, "rewards.safetensors"))["images"]
prompts = ["a red apple on a table", "two blue cats"]
ids = torch.zeros(len(prompts), 16, dtype=torch.long)        # OpenCLIP pads with 0
for row, prompt in zip(ids, prompts):
    tokens = tokenizer(prompt)["input_ids"]
    row[:len(tokens)] = torch.tensor(tokens)
out = {}
for name, shot in (("", images), ("odd.", images[:, :12, :19])):  # the second is 31 wide once resized: half a pixel of its edges goes to the even side
    x = shot.clone().requires_grad_()
    p = F.interpolate(x.permute(0, 3, 1, 2), (20, 20 * shot.shape[2] // shot.shape[1]), mode="bicubic", antialias=True)
    seen = (center_crop(p, 20) - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
    value = (model.encode_image(seen, normalize=True) * model.encode_text(ids, normalize=True)).sum(-1)
    value.sum().backward()
    print(name, p.shape, value)
    out |= {name + "value": value.detach(), name + "grad": x.grad.contiguous()}
# open_clip's own tokens of what people paste; the tokenizer in the folder is the starter's, this is the published one
TEXTS = ["it\u2019s a \u201cquoted\u201d word", "Tom &amp; Jerry &lt;3 &#39;x&#39; &quot;hi&quot;", "\ufb01ne \ufb02u\ufb00", "\uff26\uff35\uff2c\uff2c\u3000width \uff01", "\ufeffa BOM",
         "\uff08masterpiece:1.2\uff09, best", "\u2018single\u2019 \u201alow\u2018 \u00aba\u00bb", "\u0391\u03a3 \u00c0\u00c9 Stra\u00dfe \u0130stanbul", "a\tb\u00a0c\r\nd", "don't THEY'LL", "\U0001f98a \u65e5\u672c", ""]
tokens = [[i for i in row.tolist() if i] for row in SimpleTokenizer(context_length=77)(TEXTS)]
save_file(out, os.path.join(HERE, "open-clip.safetensors"), metadata=dict(script="test/golden/rewards/make_open_clip.py", prompts=json.dumps(prompts), texts=json.dumps(TEXTS), tokens=json.dumps(tokens)))
