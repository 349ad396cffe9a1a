"""Forty updates of bitsandbytes' AdamW with 8-bit states, on the CPU.

    python test/golden/optimizers/make_8bit.py        (torch 2.15, bitsandbytes 0.50.2; CPU, fp32)

Parameters [64,96] and [65,71] (its last block is short) in 8 bits, [4,2] below min_8bit_size. The gradient of value i of p_k at step n is
(-.3)^k p + 10^(-3 (i mod 3)) sin(n + 1.7 i + k): three decades in every block. Writes adamw-8bit.json: the two maps, and every 37th value, code and scale
after steps 1, 10 and 40.

bitsandbytes' quantiser for the CPU, written in C, looks values up in a table too coarse for small ones: 0 becomes 2e-5 of the block's largest. Its CUDA, Triton
and plain PyTorch ones find the nearest place, as the paper has it; the plain one is put in its place here.
"""
import json, os
import bitsandbytes as bnb, torch
from bitsandbytes.backends.cpu import ops


def nearest(values, code, absmax_out, codes_out, blocksize):
    """bitsandbytes.backends.default.ops, quantize_blockwise."""
    flat = torch.nn.functional.pad(values.flatten(), (0, -values.numel() % blocksize)).reshape(-1, blocksize)
    absmax = flat.abs().max(dim=-1)[0]
    scaled = torch.clamp(flat * (1.0 / absmax.clamp(min=1e-38).view(-1, 1)), -1, 1).flatten()[:values.numel()]
    codes_out.copy_(torch.bucketize(scaled, (code[:-1] + code[1:]) / 2, out_int32=True).to(torch.uint8).reshape(codes_out.shape))
    absmax_out.copy_(absmax)


ops._quant_blockwise_fp32_direct = nearest

torch.set_num_threads(1)
p = [torch.nn.Parameter((torch.arange(float(r * c)).reshape(r, c) * .7).sin() * s) for r, c, s in ((64, 96, .1), (65, 71, 0), (4, 2, 1))]
optimizer = bnb.optim.AdamW8bit(p, lr=1, betas=(.9, .99), eps=1e-8, weight_decay=.05)
rates, steps = [], {}
short = lambda t: [float("%.9g" % v) for v in t.detach().flatten()[::37].tolist()]
for n in range(40):
    for k, each in enumerate(p):
        i = torch.arange(each.numel(), dtype=torch.float64).reshape(each.shape)
        each.grad = ((-.3) ** k * each.detach().double() + 10. ** (-3 * (i % 3)) * (n + 1.7 * i + k).sin()).float()
    rates.append(.01 * (1 - n / 80))
    for group in optimizer.param_groups: group["lr"] = rates[-1]
    optimizer.step()
    if n + 1 not in (1, 10, 40): continue
    states = [optimizer.state[each] for each in p]
    steps[n + 1] = dict(values=[short(each) for each in p], mean8=[short(s["state1"]) for s in states], square8=[short(s["state2"]) for s in states],
                        meanScale=[short(s["absmax1"]) if "absmax1" in s else [] for s in states], squareScale=[short(s["absmax2"]) if "absmax2" in s else [] for s in states])
maps = [bnb.functional.create_dynamic_map(signed=signed).tolist() for signed in (True, False)]
with open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "adamw-8bit.json"), "w") as file:
    json.dump(dict(script="test/golden/optimizers/make_8bit.py", bitsandbytes=bnb.__version__, torch=torch.__version__, maps=maps, lr=rates, steps=steps), file)
