#!/usr/bin/env bash
# Makes the starter model from nothing: data, tokenizers, VAE and CLIP side by side, UNet, export, measurements. About 100 minutes on two CPU cores.
# Needs Python with requirements.txt, and npm. STARTER_WORK is where data and intermediate results go (default: work/ beside this file);
# VAE_MINUTES, CLIP_MINUTES and UNET_MINUTES change the durations, PYTHON the interpreter, OUT where the model goes.
set -euo pipefail
cd "$(dirname "$0")"
export STARTER_WORK="${STARTER_WORK:-$PWD/work}"
export OMP_NUM_THREADS=1
PYTHON="${PYTHON:-python3}"
mkdir -p "$STARTER_WORK"

if [ ! -d "$STARTER_WORK/node_modules" ]; then
  npm install --prefix "$STARTER_WORK" --ignore-scripts --no-save \
    @lobehub/fluent-emoji-3d@1.1.0 @iconify-json/fluent-emoji-flat@1.2.6 @iconify-json/noto@1.2.9 emojibase-data@17.0.0
fi
"$PYTHON" prepare_data.py
"$PYTHON" make_tokenizer.py

"$PYTHON" train_vae.py "${VAE_MINUTES:-26}" > "$STARTER_WORK/vae.log" 2>&1 &
vae=$!
"$PYTHON" train_clip.py "${CLIP_MINUTES:-16}" > "$STARTER_WORK/clip.log" 2>&1
wait "$vae"

"$PYTHON" train_unet.py cache
"$PYTHON" -m torch.distributed.run --standalone --nproc-per-node 2 train_unet.py "${UNET_MINUTES:-55}" > "$STARTER_WORK/unet.log" 2>&1

OMP_NUM_THREADS=2 "$PYTHON" export.py ${OUT:+"$OUT"}
OMP_NUM_THREADS=2 "$PYTHON" evaluate.py ${OUT:+"$OUT"}
