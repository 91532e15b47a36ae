# The run with the best validation Pair F1 of each setting and objective.
NPROC=1 python -m rpcl_jax.main --config=configs/ecf_frozen.py:base --config.seed=3
NPROC=1 python -m rpcl_jax.main --config=configs/ecf_frozen.py:rpcl --config.seed=3
NPROC=1 python -m rpcl_jax.main --config=configs/ecf_frozen.py:fixed_margin --config.seed=345
NPROC=1 python -m rpcl_jax.main --config=configs/ecf_frozen.py:utterance_dropout --config.seed=345
NPROC=1 python -m rpcl_jax.main --config=configs/ecf_frozen.py:cdmr --config.seed=345
NPROC=1 python -m rpcl_jax.main --config=configs/ecf_frozen.py:ccps --config.seed=456
NPROC=1 python -m rpcl_jax.main --config=configs/ecf_frozen.py:base --config.seed=1 --config.model.backbone=hilo --config.model.scorer_layers=2
NPROC=1 python -m rpcl_jax.main --config=configs/ecf_frozen.py:rpcl --config.seed=2 --config.model.backbone=hilo --config.model.scorer_layers=2
NPROC=1 python -m rpcl_jax.main --config=configs/ecf_frozen.py:fixed_margin --config.seed=1 --config.model.backbone=hilo --config.model.scorer_layers=2
NPROC=1 python -m rpcl_jax.main --config=configs/ecf_frozen.py:utterance_dropout --config.seed=1 --config.model.backbone=hilo --config.model.scorer_layers=2
NPROC=1 python -m rpcl_jax.main --config=configs/ecf_frozen.py:cdmr --config.seed=5 --config.model.backbone=hilo --config.model.scorer_layers=2
NPROC=1 python -m rpcl_jax.main --config=configs/ecf_frozen.py:ccps --config.seed=2 --config.model.backbone=hilo --config.model.scorer_layers=2
NPROC=1 python -m rpcl_jax.main --config=configs/ecf_frozen.py:base --config.seed=6 --config.model.backbone=two_step --config.model.fusion_layers=2
NPROC=1 python -m rpcl_jax.main --config=configs/ecf_frozen.py:rpcl --config.seed=4 --config.model.backbone=two_step --config.model.fusion_layers=2
NPROC=1 python -m rpcl_jax.main --config=configs/ecf_frozen.py:fixed_margin --config.seed=6 --config.model.backbone=two_step --config.model.fusion_layers=2
NPROC=1 python -m rpcl_jax.main --config=configs/ecf_frozen.py:utterance_dropout --config.seed=345 --config.model.backbone=two_step --config.model.fusion_layers=2
NPROC=1 python -m rpcl_jax.main --config=configs/ecf_frozen.py:cdmr --config.seed=6 --config.model.backbone=two_step --config.model.fusion_layers=2
NPROC=1 python -m rpcl_jax.main --config=configs/ecf_frozen.py:ccps --config.seed=4 --config.model.backbone=two_step --config.model.fusion_layers=2
NPROC=1 python -m rpcl_jax.main --config=configs/ecf_frozen.py:base --config.seed=1 --config.model.backbone=graph
NPROC=1 python -m rpcl_jax.main --config=configs/ecf_frozen.py:rpcl --config.seed=345 --config.model.backbone=graph
NPROC=1 python -m rpcl_jax.main --config=configs/ecf_frozen.py:fixed_margin --config.seed=3 --config.model.backbone=graph
NPROC=1 python -m rpcl_jax.main --config=configs/ecf_frozen.py:utterance_dropout --config.seed=3 --config.model.backbone=graph
NPROC=1 python -m rpcl_jax.main --config=configs/ecf_frozen.py:cdmr --config.seed=345 --config.model.backbone=graph
NPROC=1 python -m rpcl_jax.main --config=configs/ecf_frozen.py:ccps --config.seed=345 --config.model.backbone=graph
NPROC=1 python -m rpcl_jax.main --config=configs/reccon_frozen.py:base --config.seed=345
NPROC=1 python -m rpcl_jax.main --config=configs/reccon_frozen.py:rpcl --config.seed=2
NPROC=1 python -m rpcl_jax.main --config=configs/reccon_frozen.py:fixed_margin --config.seed=42
NPROC=1 python -m rpcl_jax.main --config=configs/reccon_frozen.py:utterance_dropout --config.seed=2
NPROC=1 python -m rpcl_jax.main --config=configs/reccon_frozen.py:cdmr --config.seed=2
NPROC=1 python -m rpcl_jax.main --config=configs/reccon_frozen.py:ccps --config.seed=2
NPROC=1 python -m rpcl_jax.main --config=configs/reccon_frozen.py:base --config.seed=1 --config.model.backbone=hilo --config.model.scorer_layers=2
NPROC=1 python -m rpcl_jax.main --config=configs/reccon_frozen.py:rpcl --config.seed=5 --config.model.backbone=hilo --config.model.scorer_layers=2
NPROC=1 python -m rpcl_jax.main --config=configs/reccon_frozen.py:fixed_margin --config.seed=6 --config.model.backbone=hilo --config.model.scorer_layers=2
NPROC=1 python -m rpcl_jax.main --config=configs/reccon_frozen.py:utterance_dropout --config.seed=5 --config.model.backbone=hilo --config.model.scorer_layers=2
NPROC=1 python -m rpcl_jax.main --config=configs/reccon_frozen.py:cdmr --config.seed=6 --config.model.backbone=hilo --config.model.scorer_layers=2
NPROC=1 python -m rpcl_jax.main --config=configs/reccon_frozen.py:ccps --config.seed=3 --config.model.backbone=hilo --config.model.scorer_layers=2
NPROC=1 python -m rpcl_jax.main --config=configs/reccon_frozen.py:base --config.seed=5 --config.model.backbone=two_step --config.model.fusion_layers=2
NPROC=1 python -m rpcl_jax.main --config=configs/reccon_frozen.py:rpcl --config.seed=42 --config.model.backbone=two_step --config.model.fusion_layers=2
NPROC=1 python -m rpcl_jax.main --config=configs/reccon_frozen.py:fixed_margin --config.seed=1 --config.model.backbone=two_step --config.model.fusion_layers=2
NPROC=1 python -m rpcl_jax.main --config=configs/reccon_frozen.py:utterance_dropout --config.seed=5 --config.model.backbone=two_step --config.model.fusion_layers=2
NPROC=1 python -m rpcl_jax.main --config=configs/reccon_frozen.py:cdmr --config.seed=3 --config.model.backbone=two_step --config.model.fusion_layers=2
NPROC=1 python -m rpcl_jax.main --config=configs/reccon_frozen.py:ccps --config.seed=42 --config.model.backbone=two_step --config.model.fusion_layers=2
NPROC=1 python -m rpcl_jax.main --config=configs/reccon_frozen.py:base --config.seed=5 --config.model.backbone=graph
NPROC=1 python -m rpcl_jax.main --config=configs/reccon_frozen.py:rpcl --config.seed=7 --config.model.backbone=graph
NPROC=1 python -m rpcl_jax.main --config=configs/reccon_frozen.py:fixed_margin --config.seed=4 --config.model.backbone=graph
NPROC=1 python -m rpcl_jax.main --config=configs/reccon_frozen.py:utterance_dropout --config.seed=7 --config.model.backbone=graph
NPROC=1 python -m rpcl_jax.main --config=configs/reccon_frozen.py:cdmr --config.seed=5 --config.model.backbone=graph
NPROC=1 python -m rpcl_jax.main --config=configs/reccon_frozen.py:ccps --config.seed=3 --config.model.backbone=graph
NPROC=1 python -m rpcl_jax.main --config=configs/ecf_minilm.py:base --config.seed=456 --config.model.fusion_layers=2 --config.model.scorer_layers=1
NPROC=1 python -m rpcl_jax.main --config=configs/ecf_minilm.py:rpcl --config.seed=456 --config.model.fusion_layers=2 --config.model.scorer_layers=1
NPROC=1 python -m rpcl_jax.main --config=configs/ecf_minilm.py:ccps --config.seed=456 --config.model.fusion_layers=2 --config.model.scorer_layers=1
NPROC=1 python -m rpcl_jax.main --config=configs/ecf_minilm.py:base --config.seed=456 --config.model.fusion_layers=0 --config.model.scorer_layers=3
NPROC=1 python -m rpcl_jax.main --config=configs/ecf_minilm.py:rpcl --config.seed=456 --config.model.fusion_layers=0 --config.model.scorer_layers=3
NPROC=1 python -m rpcl_jax.main --config=configs/ecf_minilm.py:ccps --config.seed=456 --config.model.fusion_layers=0 --config.model.scorer_layers=3
NPROC=1 python -m rpcl_jax.main --config=configs/reccon_minilm.py:base --config.seed=456 --config.model.fusion_layers=2 --config.model.scorer_layers=1
NPROC=1 python -m rpcl_jax.main --config=configs/reccon_minilm.py:rpcl --config.seed=456 --config.model.fusion_layers=2 --config.model.scorer_layers=1
NPROC=1 python -m rpcl_jax.main --config=configs/reccon_minilm.py:ccps --config.seed=456 --config.model.fusion_layers=2 --config.model.scorer_layers=1
NPROC=1 python -m rpcl_jax.main --config=configs/reccon_minilm.py:base --config.seed=345 --config.model.fusion_layers=0 --config.model.scorer_layers=3
NPROC=1 python -m rpcl_jax.main --config=configs/reccon_minilm.py:rpcl --config.seed=456 --config.model.fusion_layers=0 --config.model.scorer_layers=3
NPROC=1 python -m rpcl_jax.main --config=configs/reccon_minilm.py:ccps --config.seed=456 --config.model.fusion_layers=0 --config.model.scorer_layers=3
