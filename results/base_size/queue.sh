#!/usr/bin/env bash
# Trains what base_size/README.md compares, one thread a run, in this order; what is finished is
# skipped and what was interrupted is continued. Start it in the repository's root, once per core:
#
#     MPNET=FOLDER MINILM=FOLDER ECF=FOLDER RECCON=FOLDER results/base_size/queue.sh 0 minilm
#     …                                                   results/base_size/queue.sh 1 mpnet  # or whole, context
#
# `python results/base_size/collect.py` writes tried.csv from the runs that are finished.
set -u
core=$1 part=$2
run() { # NAME CONFIG FLAGS…
  local name=$1 config=$2
  shift 2
  [ -f "runs/base_size/$name/result.json" ] && return
  taskset -c "$core" nice -n ${NICE:-10} python -m rpcl_jax.main --config="configs/$config" \
    --config.text.cache=runs/base_size/vectors "$@" --workdir="runs/base_size/$name"
}
ecf=--config.data.root=$ECF reccon=--config.data.root=$RECCON
minilm=--config.text.pretrained=$MINILM mpnet=--config.text.pretrained=$MPNET
rate=--config.optimizer.encoder_learning_rate

if [ "$part" = minilm ]; then # adapters beside full fine-tuning
  for r in 1e-3 5e-4 2e-3; do
    run "minilm_ecf_lora8_$r-seed42" ecf_minilm.py:base "$ecf" "$minilm" --config.text.lora_rank=8 "$rate=$r"
  done
  for seed in 345 456; do
    run "minilm_ecf_lora8_1e-3-seed$seed" ecf_minilm.py:base "$ecf" "$minilm" --config.text.lora_rank=8 "$rate=1e-3" --config.seed=$seed
  done
  for seed in 42 345 456; do
    run "minilm_reccon_lora8_1e-3-seed$seed" reccon_minilm.py:base "$reccon" "$minilm" --config.text.lora_rank=8 "$rate=1e-3" --config.seed=$seed
  done
fi
if [ "$part" = mpnet ]; then # settings of a base-size encoder: frozen, then with adapters, then whole
  run mpnet_frozen-seed42 ecf_frozen.py:base "$ecf" "$mpnet"
  for flag in optimizer.learning_rate=1e-3 optimizer.learning_rate=4e-3 model.dropout=0.15 model.dropout=0.5 \
    model.width=400 epochs=24; do
    run "mpnet_frozen_$flag-seed42" ecf_frozen.py:base "$ecf" "$mpnet" "--config.$flag"
  done
  for r in 5e-4 1e-3; do
    run "mpnet_lora8_$r-seed42" ecf_minilm.py:base "$ecf" "$mpnet" --config.text.lora_rank=8 "$rate=$r" --config.epochs=4
  done
fi
if [ "$part" = whole ]; then # MPNet trained whole, in bfloat16; then with words that attend to the whole dialogue
  whole="$mpnet --config.text.dtype=bfloat16 --config.epochs=5 --config.checkpoint_minutes=15"
  dialogue="--config.text.context=dialogue --config.text.max_tokens=512 --config.text.row_length=512"
  run mpnet_full_5e-5-seed42 ecf_minilm.py:base "$ecf" $whole "$rate=5e-5"
  run mpnet_full_5e-5_dialogue-seed42 ecf_minilm.py:base "$ecf" $whole $dialogue "$rate=5e-5"
  run mpnet_full_5e-5_dialogue_joint-seed42 ecf_reccon.py:base $whole $dialogue "$rate=5e-5" \
    "--config.data.root=$ECF,$RECCON" --config.text.lora_rank=0 --config.model.width=400 \
    --config.model.pair_width=200 --config.optimizer.learning_rate=5e-4
  run mpnet_full_3e-5_dialogue-seed42 ecf_minilm.py:base "$ecf" $whole $dialogue "$rate=3e-5"
fi
if [ "$part" = context ]; then # the same with MiniLM
  dialogue="--config.text.context=dialogue --config.text.max_tokens=512 --config.text.row_length=512"
  for seed in 42 345 456; do
    for context in "" dialogue; do
      run "minilm_full_$context-seed$seed" ecf_minilm.py:base "$ecf" "$minilm" ${context:+$dialogue} \
        --config.text.dtype=bfloat16 --config.seed=$seed
    done
  done
fi
