"""Extractors of random weights, small enough to make on the spot."""

import transformers
from shared import import_or_skip

torch = import_or_skip("torch")


def save_wav2vec2(folder, norm="group"):
    """A wav2vec 2.0 in Hugging Face form, `feat_extract_norm` as said; its folder as text."""
    torch.manual_seed(0)
    config = transformers.Wav2Vec2Config(
        vocab_size=8,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=32,
        conv_dim=(8,) * 7,
        num_feat_extract_layers=7,
        num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=2,
        feat_extract_norm=norm,
        do_stable_layer_norm=norm == "layer",
        initializer_range=0.5,
    )
    transformers.Wav2Vec2Model(config).save_pretrained(folder)
    transformers.Wav2Vec2FeatureExtractor(
        sampling_rate=16_000, do_normalize=True, return_attention_mask=norm == "layer"
    ).save_pretrained(folder)
    return str(folder)


def save_clip(folder):
    """A CLIP in Hugging Face form; its folder as text."""
    torch.manual_seed(0)
    tower = {
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "projection_dim": 12,
    }
    vision = {**tower, "image_size": 32, "patch_size": 8, "initializer_factor": 5.0}
    config = transformers.CLIPConfig(
        text_config={**tower, "vocab_size": 8}, vision_config=vision, projection_dim=12
    )
    transformers.CLIPModel(config).save_pretrained(folder)
    processor = transformers.CLIPImageProcessorPil(
        size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}
    )
    processor.save_pretrained(folder)
    return str(folder)
