# The run with the best validation Pair F1 of each setting and objective.
NPROC=1 python -m rpcl_jax.main --config=configs/ecf_frozen.py:base --config.seed=3 --workdir=runs/best/frozen/ecf_frozen_transformer-base
NPROC=1 python -m rpcl_jax.main --config=configs/ecf_frozen.py:rpcl --config.seed=3 --workdir=runs/best/frozen/ecf_frozen_transformer-rpcl
NPROC=1 python -m rpcl_jax.main --config=configs/ecf_frozen.py:fixed_margin --config.seed=345 --workdir=runs/best/frozen/ecf_frozen_transformer-fixed_margin
NPROC=1 python -m rpcl_jax.main --config=configs/ecf_frozen.py:utterance_dropout --config.seed=345 --workdir=runs/best/frozen/ecf_frozen_transformer-utterance_dropout
NPROC=1 python -m rpcl_jax.main --config=configs/ecf_frozen.py:cdmr --config.seed=345 --workdir=runs/best/frozen/ecf_frozen_transformer-cdmr
NPROC=1 python -m rpcl_jax.main --config=configs/ecf_frozen.py:ccps --config.seed=456 --workdir=runs/best/frozen/ecf_frozen_transformer-ccps
NPROC=1 python -m rpcl_jax.main --config=configs/ecf_frozen.py:base --config.seed=1 --workdir=runs/best/frozen/ecf_frozen_hilo-base --config.model.backbone=hilo --config.model.scorer_layers=2
NPROC=1 python -m rpcl_jax.main --config=configs/ecf_frozen.py:rpcl --config.seed=2 --workdir=runs/best/frozen/ecf_frozen_hilo-rpcl --config.model.backbone=hilo --config.model.scorer_layers=2
NPROC=1 python -m rpcl_jax.main --config=configs/ecf_frozen.py:fixed_margin --config.seed=1 --workdir=runs/best/frozen/ecf_frozen_hilo-fixed_margin --config.model.backbone=hilo --config.model.scorer_layers=2
NPROC=1 python -m rpcl_jax.main --config=configs/ecf_frozen.py:utterance_dropout --config.seed=1 --workdir=runs/best/frozen/ecf_frozen_hilo-utterance_dropout --config.model.backbone=hilo --config.model.scorer_layers=2
NPROC=1 python -m rpcl_jax.main --config=configs/ecf_frozen.py:cdmr --config.seed=5 --workdir=runs/best/frozen/ecf_frozen_hilo-cdmr --config.model.backbone=hilo --config.model.scorer_layers=2
NPROC=1 python -m rpcl_jax.main --config=configs/ecf_frozen.py:ccps --config.seed=2 --workdir=runs/best/frozen/ecf_frozen_hilo-ccps --config.model.backbone=hilo --config.model.scorer_layers=2
NPROC=1 python -m rpcl_jax.main --config=configs/ecf_frozen.py:base --config.seed=6 --workdir=runs/best/frozen/ecf_frozen_two_step-base --config.model.backbone=two_step --config.model.fusion_layers=2
NPROC=1 python -m rpcl_jax.main --config=configs/ecf_frozen.py:rpcl --config.seed=4 --workdir=runs/best/frozen/ecf_frozen_two_step-rpcl --config.model.backbone=two_step --config.model.fusion_layers=2
NPROC=1 python -m rpcl_jax.main --config=configs/ecf_frozen.py:fixed_margin --config.seed=6 --workdir=runs/best/frozen/ecf_frozen_two_step-fixed_margin --config.model.backbone=two_step --config.model.fusion_layers=2
NPROC=1 python -m rpcl_jax.main --config=configs/ecf_frozen.py:utterance_dropout --config.seed=345 --workdir=runs/best/frozen/ecf_frozen_two_step-utterance_dropout --config.model.backbone=two_step --config.model.fusion_layers=2
NPROC=1 python -m rpcl_jax.main --config=configs/ecf_frozen.py:cdmr --config.seed=6 --workdir=runs/best/frozen/ecf_frozen_two_step-cdmr --config.model.backbone=two_step --config.model.fusion_layers=2
NPROC=1 python -m rpcl_jax.main --config=configs/ecf_frozen.py:ccps --config.seed=4 --workdir=runs/best/frozen/ecf_frozen_two_step-ccps --config.model.backbone=two_step --config.model.fusion_layers=2
NPROC=1 python -m rpcl_jax.main --config=configs/ecf_frozen.py:base --config.seed=1 --workdir=runs/best/frozen/ecf_frozen_graph-base --config.model.backbone=graph
NPROC=1 python -m rpcl_jax.main --config=configs/ecf_frozen.py:rpcl --config.seed=345 --workdir=runs/best/frozen/ecf_frozen_graph-rpcl --config.model.backbone=graph
NPROC=1 python -m rpcl_jax.main --config=configs/ecf_frozen.py:fixed_margin --config.seed=3 --workdir=runs/best/frozen/ecf_frozen_graph-fixed_margin --config.model.backbone=graph
NPROC=1 python -m rpcl_jax.main --config=configs/ecf_frozen.py:utterance_dropout --config.seed=3 --workdir=runs/best/frozen/ecf_frozen_graph-utterance_dropout --config.model.backbone=graph
NPROC=1 python -m rpcl_jax.main --config=configs/ecf_frozen.py:cdmr --config.seed=345 --workdir=runs/best/frozen/ecf_frozen_graph-cdmr --config.model.backbone=graph
NPROC=1 python -m rpcl_jax.main --config=configs/ecf_frozen.py:ccps --config.seed=345 --workdir=runs/best/frozen/ecf_frozen_graph-ccps --config.model.backbone=graph
NPROC=1 python -m rpcl_jax.main --config=configs/reccon_frozen.py:base --config.seed=345 --workdir=runs/best/frozen/reccon_frozen_transformer-base
NPROC=1 python -m rpcl_jax.main --config=configs/reccon_frozen.py:rpcl --config.seed=2 --workdir=runs/best/frozen/reccon_frozen_transformer-rpcl
NPROC=1 python -m rpcl_jax.main --config=configs/reccon_frozen.py:fixed_margin --config.seed=42 --workdir=runs/best/frozen/reccon_frozen_transformer-fixed_margin
NPROC=1 python -m rpcl_jax.main --config=configs/reccon_frozen.py:utterance_dropout --config.seed=2 --workdir=runs/best/frozen/reccon_frozen_transformer-utterance_dropout
NPROC=1 python -m rpcl_jax.main --config=configs/reccon_frozen.py:cdmr --config.seed=2 --workdir=runs/best/frozen/reccon_frozen_transformer-cdmr
NPROC=1 python -m rpcl_jax.main --config=configs/reccon_frozen.py:ccps --config.seed=2 --workdir=runs/best/frozen/reccon_frozen_transformer-ccps
NPROC=1 python -m rpcl_jax.main --config=configs/reccon_frozen.py:base --config.seed=1 --workdir=runs/best/frozen/reccon_frozen_hilo-base --config.model.backbone=hilo --config.model.scorer_layers=2
NPROC=1 python -m rpcl_jax.main --config=configs/reccon_frozen.py:rpcl --config.seed=5 --workdir=runs/best/frozen/reccon_frozen_hilo-rpcl --config.model.backbone=hilo --config.model.scorer_layers=2
NPROC=1 python -m rpcl_jax.main --config=configs/reccon_frozen.py:fixed_margin --config.seed=6 --workdir=runs/best/frozen/reccon_frozen_hilo-fixed_margin --config.model.backbone=hilo --config.model.scorer_layers=2
NPROC=1 python -m rpcl_jax.main --config=configs/reccon_frozen.py:utterance_dropout --config.seed=5 --workdir=runs/best/frozen/reccon_frozen_hilo-utterance_dropout --config.model.backbone=hilo --config.model.scorer_layers=2
NPROC=1 python -m rpcl_jax.main --config=configs/reccon_frozen.py:cdmr --config.seed=6 --workdir=runs/best/frozen/reccon_frozen_hilo-cdmr --config.model.backbone=hilo --config.model.scorer_layers=2
NPROC=1 python -m rpcl_jax.main --config=configs/reccon_frozen.py:ccps --config.seed=3 --workdir=runs/best/frozen/reccon_frozen_hilo-ccps --config.model.backbone=hilo --config.model.scorer_layers=2
NPROC=1 python -m rpcl_jax.main --config=configs/reccon_frozen.py:base --config.seed=5 --workdir=runs/best/frozen/reccon_frozen_two_step-base --config.model.backbone=two_step --config.model.fusion_layers=2
NPROC=1 python -m rpcl_jax.main --config=configs/reccon_frozen.py:rpcl --config.seed=42 --workdir=runs/best/frozen/reccon_frozen_two_step-rpcl --config.model.backbone=two_step --config.model.fusion_layers=2
NPROC=1 python -m rpcl_jax.main --config=configs/reccon_frozen.py:fixed_margin --config.seed=1 --workdir=runs/best/frozen/reccon_frozen_two_step-fixed_margin --config.model.backbone=two_step --config.model.fusion_layers=2
NPROC=1 python -m rpcl_jax.main --config=configs/reccon_frozen.py:utterance_dropout --config.seed=5 --workdir=runs/best/frozen/reccon_frozen_two_step-utterance_dropout --config.model.backbone=two_step --config.model.fusion_layers=2
NPROC=1 python -m rpcl_jax.main --config=configs/reccon_frozen.py:cdmr --config.seed=3 --workdir=runs/best/frozen/reccon_frozen_two_step-cdmr --config.model.backbone=two_step --config.model.fusion_layers=2
NPROC=1 python -m rpcl_jax.main --config=configs/reccon_frozen.py:ccps --config.seed=42 --workdir=runs/best/frozen/reccon_frozen_two_step-ccps --config.model.backbone=two_step --config.model.fusion_layers=2
NPROC=1 python -m rpcl_jax.main --config=configs/reccon_frozen.py:base --config.seed=5 --workdir=runs/best/frozen/reccon_frozen_graph-base --config.model.backbone=graph
NPROC=1 python -m rpcl_jax.main --config=configs/reccon_frozen.py:rpcl --config.seed=7 --workdir=runs/best/frozen/reccon_frozen_graph-rpcl --config.model.backbone=graph
NPROC=1 python -m rpcl_jax.main --config=configs/reccon_frozen.py:fixed_margin --config.seed=4 --workdir=runs/best/frozen/reccon_frozen_graph-fixed_margin --config.model.backbone=graph
NPROC=1 python -m rpcl_jax.main --config=configs/reccon_frozen.py:utterance_dropout --config.seed=7 --workdir=runs/best/frozen/reccon_frozen_graph-utterance_dropout --config.model.backbone=graph
NPROC=1 python -m rpcl_jax.main --config=configs/reccon_frozen.py:cdmr --config.seed=5 --workdir=runs/best/frozen/reccon_frozen_graph-cdmr --config.model.backbone=graph
NPROC=1 python -m rpcl_jax.main --config=configs/reccon_frozen.py:ccps --config.seed=3 --workdir=runs/best/frozen/reccon_frozen_graph-ccps --config.model.backbone=graph
NPROC=1 python -m rpcl_jax.main --config=configs/ecf_minilm.py:base --config.seed=456 --workdir=runs/best/fine_tuned/ecf_minilm-base --config.model.fusion_layers=2 --config.model.scorer_layers=1 --config.model.dropout=0.3
NPROC=1 python -m rpcl_jax.main --config=configs/ecf_minilm.py:rpcl --config.seed=456 --workdir=runs/best/fine_tuned/ecf_minilm-rpcl --config.model.fusion_layers=2 --config.model.scorer_layers=1 --config.model.dropout=0.3
NPROC=1 python -m rpcl_jax.main --config=configs/ecf_minilm.py:pair_weight --config.seed=456 --workdir=runs/best/fine_tuned/ecf_minilm-pair_weight --config.model.fusion_layers=2 --config.model.scorer_layers=1 --config.model.dropout=0.3
NPROC=1 python -m rpcl_jax.main --config=configs/ecf_minilm.py:ccps --config.seed=456 --workdir=runs/best/fine_tuned/ecf_minilm-ccps --config.model.fusion_layers=2 --config.model.scorer_layers=1 --config.model.dropout=0.3
NPROC=1 python -m rpcl_jax.main --config=configs/ecf_minilm.py:base --config.seed=456 --workdir=runs/best/fine_tuned/ecf_minilm_cut-base --config.model.fusion_layers=0 --config.model.scorer_layers=3 --config.model.dropout=0.3
NPROC=1 python -m rpcl_jax.main --config=configs/ecf_minilm.py:rpcl --config.seed=456 --workdir=runs/best/fine_tuned/ecf_minilm_cut-rpcl --config.model.fusion_layers=0 --config.model.scorer_layers=3 --config.model.dropout=0.3
NPROC=1 python -m rpcl_jax.main --config=configs/ecf_minilm.py:pair_weight --config.seed=456 --workdir=runs/best/fine_tuned/ecf_minilm_cut-pair_weight --config.model.fusion_layers=0 --config.model.scorer_layers=3 --config.model.dropout=0.3
NPROC=1 python -m rpcl_jax.main --config=configs/ecf_minilm.py:ccps --config.seed=456 --workdir=runs/best/fine_tuned/ecf_minilm_cut-ccps --config.model.fusion_layers=0 --config.model.scorer_layers=3 --config.model.dropout=0.3
NPROC=1 python -m rpcl_jax.main --config=configs/reccon_minilm.py:base --config.seed=456 --workdir=runs/best/fine_tuned/reccon_minilm-base --config.model.fusion_layers=2 --config.model.scorer_layers=1 --config.model.dropout=0.3
NPROC=1 python -m rpcl_jax.main --config=configs/reccon_minilm.py:rpcl --config.seed=456 --workdir=runs/best/fine_tuned/reccon_minilm-rpcl --config.model.fusion_layers=2 --config.model.scorer_layers=1 --config.model.dropout=0.3
NPROC=1 python -m rpcl_jax.main --config=configs/reccon_minilm.py:pair_weight --config.seed=456 --workdir=runs/best/fine_tuned/reccon_minilm-pair_weight --config.model.fusion_layers=2 --config.model.scorer_layers=1 --config.model.dropout=0.3
NPROC=1 python -m rpcl_jax.main --config=configs/reccon_minilm.py:ccps --config.seed=456 --workdir=runs/best/fine_tuned/reccon_minilm-ccps --config.model.fusion_layers=2 --config.model.scorer_layers=1 --config.model.dropout=0.3
NPROC=1 python -m rpcl_jax.main --config=configs/reccon_minilm.py:base --config.seed=345 --workdir=runs/best/fine_tuned/reccon_minilm_cut-base --config.model.fusion_layers=0 --config.model.scorer_layers=3 --config.model.dropout=0.3
NPROC=1 python -m rpcl_jax.main --config=configs/reccon_minilm.py:rpcl --config.seed=456 --workdir=runs/best/fine_tuned/reccon_minilm_cut-rpcl --config.model.fusion_layers=0 --config.model.scorer_layers=3 --config.model.dropout=0.3
NPROC=1 python -m rpcl_jax.main --config=configs/reccon_minilm.py:pair_weight --config.seed=345 --workdir=runs/best/fine_tuned/reccon_minilm_cut-pair_weight --config.model.fusion_layers=0 --config.model.scorer_layers=3 --config.model.dropout=0.3
NPROC=1 python -m rpcl_jax.main --config=configs/reccon_minilm.py:ccps --config.seed=456 --workdir=runs/best/fine_tuned/reccon_minilm_cut-ccps --config.model.fusion_layers=0 --config.model.scorer_layers=3 --config.model.dropout=0.3
NPROC=1 python -m rpcl_jax.main --config=configs/ecf_minilm.py:base --config.seed=456 --workdir=runs/best/lower_dropout/ecf_minilm-base
NPROC=1 python -m rpcl_jax.main --config=configs/ecf_minilm.py:rpcl --config.seed=456 --workdir=runs/best/lower_dropout/ecf_minilm-rpcl
NPROC=1 python -m rpcl_jax.main --config=configs/reccon_minilm.py:base --config.seed=1 --workdir=runs/best/lower_dropout/reccon_minilm-base
NPROC=1 python -m rpcl_jax.main --config=configs/reccon_minilm.py:rpcl --config.seed=2 --workdir=runs/best/lower_dropout/reccon_minilm-rpcl
