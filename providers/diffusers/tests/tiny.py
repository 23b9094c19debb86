"""Checkpoints of every family with tiny random weights, as diffusers folders of a megabyte or two.

The true classes in small sizes: a 64 x 64 picture takes some tens of milliseconds. Their pictures
mean nothing; what is tested on them is how they are driven.
"""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Mapping
from inspect import signature
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderDC,
    AutoencoderKLFlux2,
    AutoencoderKLQwenImage,
    ChromaTransformer2DModel,
    ControlNetModel,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    Flux2Transformer2DModel,
    FluxControlNetModel,
    FluxTransformer2DModel,
    LCMScheduler,
    PNDMScheduler,
    QwenImageControlNetModel,
    QwenImageTransformer2DModel,
    SanaControlNetModel,
    SanaTransformer2DModel,
    SCMScheduler,
    SD3ControlNetModel,
    SD3Transformer2DModel,
    UNet2DConditionModel,
    ZImageControlNetModel,
    ZImageTransformer2DModel,
)
from diffusers.pipelines.flux.modeling_flux import ReduxImageEncoder
from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
from safetensors import safe_open
from safetensors.torch import save_file
from transformers import (
    CLIPConfig,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
    Gemma2Config,
    Gemma2Model,
    SiglipVisionConfig,
    SiglipVisionModel,
)
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

from . import tinyrest
from .tinyparts import (
    SIZE,
    WIDTH,
    Parts,
    Pictures,
    clip,
    flow,
    qwen3_lm,
    qwen_vl,
    t5,
    tokenizer,
    vae,
    z_image,
)

__all__ = [
    "FAMILIES",
    "REPOSITORIES",
    "SIZE",
    "attention",
    "build",
    "controlnet",
    "download",
    "ip_adapter",
    "lora",
    "redux",
    "safety_checker",
]


def flux(
    pipeline: str = "FluxPipeline",
    *,
    inputs: int = 16,
    distilled: bool = True,
    shifting: bool = True,
) -> tuple[str, Parts]:
    transformer = FluxTransformer2DModel(
        in_channels=inputs,
        out_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=16,
        num_attention_heads=2,
        joint_attention_dim=WIDTH,
        pooled_projection_dim=WIDTH,
        guidance_embeds=distilled,
        axes_dims_rope=[4, 6, 6],
    )
    return pipeline, {
        "scheduler": flow() if shifting else flow(shift=1.0, use_dynamic_shifting=False),
        "text_encoder": clip(),
        "text_encoder_2": t5(),
        "tokenizer": tokenizer(77),
        "tokenizer_2": tokenizer(512, kind="t5"),
        "transformer": transformer,
        "vae": vae(),
    }


def sd3() -> tuple[str, Parts]:
    transformer = SD3Transformer2DModel(
        sample_size=8,
        patch_size=2,
        in_channels=16,
        out_channels=16,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=4,
        joint_attention_dim=2 * WIDTH,
        caption_projection_dim=WIDTH,
        pooled_projection_dim=2 * WIDTH,
        pos_embed_max_size=16,
        dual_attention_layers=[0],
        qk_norm="rms_norm",
    )
    return "StableDiffusion3Pipeline", {
        "scheduler": flow(use_dynamic_shifting=False),
        "text_encoder": clip(projected=True),
        "text_encoder_2": clip(projected=True),
        "text_encoder_3": t5(2 * WIDTH),
        "tokenizer": tokenizer(77),
        "tokenizer_2": tokenizer(77),
        "tokenizer_3": tokenizer(256, kind="t5"),
        "transformer": transformer,
        "vae": vae(16),
    }


def qwen(pipeline: str = "QwenImagePipeline") -> tuple[str, Parts]:
    words = tokenizer(1024, kind="chat")
    parts = {
        "scheduler": flow(shift_terminal=0.02, max_shift=0.9, base_shift=0.5),
        "text_encoder": qwen_vl(words),
        "tokenizer": words,
        "transformer": QwenImageTransformer2DModel(
            in_channels=16,
            out_channels=4,
            num_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=WIDTH,
            axes_dims_rope=(4, 6, 6),
        ),
        "vae": AutoencoderKLQwenImage(
            base_dim=4,
            z_dim=4,
            dim_mult=[1, 1, 1, 1],
            num_res_blocks=1,
            temperal_downsample=[False, True, True],
            latents_mean=[0.1, -0.1, 0.2, 0.0],
            latents_std=[1.1, 0.9, 1.0, 1.2],
        ),
    }
    if "Edit" in pipeline:
        parts["processor"] = Pictures(words)
    return pipeline, parts


def sd(
    pipeline: str = "StableDiffusionPipeline", *, inputs: int = 4, scheduler: Any = None
) -> tuple[str, Parts]:
    extra = {"time_cond_proj_dim": 16} if "Consistency" in pipeline else {}
    return pipeline, {
        "scheduler": scheduler or PNDMScheduler(**DDIM, skip_prk_steps=True),
        "text_encoder": clip(),
        "tokenizer": tokenizer(77),
        "unet": unet(inputs, cross_attention_dim=WIDTH, **extra),
        "vae": vae(use_quant_conv=True, use_post_quant_conv=True, shift_factor=None),
        "safety_checker": None,
        "feature_extractor": None,
    }


DDIM: dict[str, Any] = {
    "beta_start": 0.00085,
    "beta_end": 0.012,
    "beta_schedule": "scaled_linear",
    "steps_offset": 1,
}


def unet(inputs: int, **settings: Any) -> Any:
    defaults = {
        "sample_size": SIZE // 8,
        "in_channels": inputs,
        "out_channels": 4,
        "block_out_channels": [8, 16],
        "layers_per_block": 1,
        "down_block_types": ["DownBlock2D", "CrossAttnDownBlock2D"],
        "up_block_types": ["CrossAttnUpBlock2D", "UpBlock2D"],
        "attention_head_dim": 8,
        "norm_num_groups": 4,
    }
    return UNet2DConditionModel(**defaults | settings)


def sdxl(
    pipeline: str = "StableDiffusionXLPipeline", *, inputs: int = 4, refiner: bool = False
) -> tuple[str, Parts]:
    ids = 5 if refiner else 6
    parts = {
        "scheduler": EulerDiscreteScheduler(**DDIM, timestep_spacing="leading"),
        "text_encoder": None if refiner else clip(),
        "text_encoder_2": clip(projected=True),
        "tokenizer": None if refiner else tokenizer(77),
        "tokenizer_2": tokenizer(77),
        "unet": unet(
            inputs,
            cross_attention_dim=WIDTH if refiner else 2 * WIDTH,
            addition_embed_type="text_time",
            addition_time_embed_dim=8,
            projection_class_embeddings_input_dim=WIDTH + 8 * ids,
            transformer_layers_per_block=1,
            use_linear_projection=True,
        ),
        "vae": vae(use_quant_conv=True, use_post_quant_conv=True, shift_factor=None),
    }
    return pipeline, parts


def flux2(pipeline: str = "Flux2KleinPipeline") -> tuple[str, Parts]:
    words = tokenizer(1024, kind="chat")
    return pipeline, {
        "scheduler": flow(),
        "text_encoder": qwen3_lm(words, layers=30),
        "tokenizer": words,
        "transformer": Flux2Transformer2DModel(
            in_channels=16,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=3 * WIDTH,
            timestep_guidance_channels=16,
            axes_dims_rope=(4, 4, 4, 4),
            guidance_embeds=False,
        ),
        "vae": AutoencoderKLFlux2(
            block_out_channels=[8, 8, 8, 8],
            down_block_types=["DownEncoderBlock2D"] * 4,
            up_block_types=["UpDecoderBlock2D"] * 4,
            layers_per_block=1,
            latent_channels=4,
            norm_num_groups=4,
            sample_size=SIZE,
        ),
    }


def chroma() -> tuple[str, Parts]:
    return "ChromaPipeline", {
        "scheduler": flow(shift=1.0, use_dynamic_shifting=False),
        "text_encoder": t5(),
        "tokenizer": tokenizer(512, kind="t5"),
        "transformer": ChromaTransformer2DModel(
            in_channels=16,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=16,
            num_attention_heads=2,
            joint_attention_dim=WIDTH,
            axes_dims_rope=(4, 6, 6),
            approximator_num_channels=8,
            approximator_hidden_dim=16,
            approximator_layers=1,
        ),
        "vae": vae(),
    }


def sana(pipeline: str = "SanaPipeline") -> tuple[str, Parts]:
    words = tokenizer(1024, kind="t5")
    sprint = "Sprint" in pipeline
    return pipeline, {
        "scheduler": SCMScheduler(prediction_type="trigflow", sigma_data=0.5)
        if sprint
        else DPMSolverMultistepScheduler(
            use_flow_sigmas=True, prediction_type="flow_prediction", flow_shift=3.0
        ),
        "text_encoder": Gemma2Model(
            Gemma2Config(
                vocab_size=len(words),
                hidden_size=WIDTH,
                intermediate_size=2 * WIDTH,
                num_hidden_layers=1,
                num_attention_heads=2,
                num_key_value_heads=2,
                head_dim=16,
                max_position_embeddings=4096,
            )
        ),
        "tokenizer": words,
        "transformer": SanaTransformer2DModel(
            in_channels=4,
            out_channels=4,
            num_attention_heads=2,
            attention_head_dim=16,
            num_layers=2,
            num_cross_attention_heads=2,
            cross_attention_head_dim=16,
            cross_attention_dim=WIDTH,
            caption_channels=WIDTH,
            sample_size=2,
            guidance_embeds=sprint,
            timestep_scale=1000.0 if sprint else 1.0,
            qk_norm="rms_norm_across_heads" if sprint else None,
        ),
        "vae": AutoencoderDC(
            in_channels=3,
            latent_channels=4,
            attention_head_dim=4,
            encoder_block_types=["ResBlock"] * 6,
            decoder_block_types=["ResBlock"] * 6,
            encoder_block_out_channels=[4, 4, 4, 8, 8, 8],
            decoder_block_out_channels=[4, 4, 4, 8, 8, 8],
            encoder_qkv_multiscales=[[]] * 6,
            decoder_qkv_multiscales=[[]] * 6,
            encoder_layers_per_block=[1] * 6,
            decoder_layers_per_block=[1] * 6,
            downsample_block_type="conv",
            upsample_block_type="interpolate",
            decoder_norm_types="rms_norm",
            decoder_act_fns="silu",
            scaling_factor=0.41407,
        ),
    }


FAMILIES: Mapping[str, Callable[[], tuple[str, Parts]]] = {
    "flux": flux,
    "flux-schnell": lambda: flux(distilled=False, shifting=False),
    "flux-undistilled": lambda: flux(distilled=False),
    "flux-fill": lambda: flux("FluxFillPipeline", inputs=16 + 16 + 256),
    "flux-kontext": lambda: flux("FluxKontextPipeline"),
    "flux-control": lambda: flux("FluxControlPipeline", inputs=32),
    "sd3": sd3,
    "qwen-image": qwen,
    "qwen-image-edit": lambda: qwen("QwenImageEditPipeline"),
    "qwen-image-edit-plus": lambda: qwen("QwenImageEditPlusPipeline"),
    "z-image": lambda: ("ZImagePipeline", z_image()),
    "sd": sd,
    "sd-inpaint": lambda: sd("StableDiffusionInpaintPipeline", inputs=9),
    "sd-pix2pix": lambda: sd("StableDiffusionInstructPix2PixPipeline", inputs=8),
    "lcm": lambda: sd("LatentConsistencyModelPipeline", scheduler=LCMScheduler(**DDIM)),
    "sdxl": sdxl,
    "sdxl-inpaint": lambda: sdxl("StableDiffusionXLInpaintPipeline", inputs=9),
    "sdxl-refiner": lambda: sdxl("StableDiffusionXLImg2ImgPipeline", refiner=True),
    "sdxl-pix2pix": lambda: sdxl("StableDiffusionXLInstructPix2PixPipeline", inputs=8),
    "flux2-klein": flux2,
    "flux2-klein-distilled": flux2,
    "chroma": chroma,
    "sana": sana,
    "sana-sprint": lambda: sana("SanaSprintPipeline"),
    **tinyrest.FAMILIES,
}
"""The families that have a tiny checkpoint, by their names in families.toml."""

SETTINGS: Mapping[str, dict[str, Any]] = {
    "sdxl-refiner": {"requires_aesthetics_score": True},
    "flux2-klein-distilled": {"is_distilled": True},
    "sd": {"requires_safety_checker": False},
}


REPOSITORIES: Mapping[str, tuple[str, str]] = {
    "sd-turbo": ("stabilityai/sd-turbo", "sd"),
    "sdxl-turbo": ("stabilityai/sdxl-turbo", "sdxl"),
    "sd3-turbo": ("stabilityai/stable-diffusion-3.5-large-turbo", "sd3"),
    "z-image-turbo": ("Tongyi-MAI/Z-Image-Turbo", "z-image"),
}
"""The families that are known by their repository alone, and the family whose parts they have."""


def download(name: str, cache: Path) -> str:
    """Put a tiny checkpoint of a family in `REPOSITORIES` into a cache of the Hub; its repository."""
    repository, parts = REPOSITORIES[name]
    place = cache / f"models--{repository.replace('/', '--')}"
    snapshot = place / "snapshots" / "main"
    snapshot.mkdir(parents=True)
    (place / "refs").mkdir()
    (place / "refs" / "main").write_text("main")
    build(parts, snapshot)
    (snapshot / "diptych.json").write_text(json.dumps({"size": SIZE}))
    return repository


def build(name: str, folder: Path) -> Path:
    """Write the tiny checkpoint of family `name` to `folder`; the same weights every time."""
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")
        torch.manual_seed(len(name))
        pipeline, parts = FAMILIES[name]()
        index: dict[str, Any] = {"_class_name": pipeline, "_diffusers_version": "0.42.1"}
        index |= SETTINGS.get(name, {})
        for part, value in parts.items():
            index[part] = [None, None]
            if value is not None:
                library = type(value).__module__.partition(".")[0]
                index[part] = [library, type(value).__name__.removesuffix("Pil")]
                if isinstance(value, Pictures):
                    index[part] = ["transformers", value.kind]
                value.save_pretrained(folder / part)
    (folder / "model_index.json").write_text(json.dumps(index, indent=1))
    defaults = {"num_inference_steps": 2}
    (folder / "diptych.json").write_text(json.dumps({"size": SIZE, "defaults": defaults}))
    return folder


def lora(folder: Path, layers: Mapping[str, tuple[int, int]], **metadata: str) -> Path:
    """A LoRA of rank 2 for `layers`: name = (inputs, outputs)."""
    state = {}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(len(folder.name))
        for name, (inputs, outputs) in layers.items():
            state[f"{name}.lora_A.weight"] = torch.randn(2, inputs)
            state[f"{name}.lora_B.weight"] = torch.randn(outputs, 2)
    file = folder / "pytorch_lora_weights.safetensors"
    folder.mkdir(exist_ok=True, parents=True)
    save_file(state, file, metadata=metadata or None)
    return file


def attention(model: Path) -> dict[str, tuple[int, int]]:
    """A layer of a checkpoint's denoiser for `lora`: a projection of the first attention."""
    part = "unet" if (model / "unet").is_dir() else "transformer"
    (file,) = (model / part).glob("*.safetensors")
    ends = ("to_q.weight", "to_k.weight", "to_out.0.weight")
    with safe_open(file, framework="pt") as opened:
        names = [name for name in opened.keys() if name.endswith(ends)]  # noqa: SIM118
        outputs, inputs = opened.get_slice(names[0]).get_shape()
    return {f"{part}.{names[0].removesuffix('.weight')}": (inputs, outputs)}


def controlnet(kind: str, folder: Path, model: Path) -> Path:
    """A ControlNet of class `kind` for a tiny checkpoint, that has an effect."""
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")
        torch.manual_seed(3)
        if kind == "ControlNetModel":
            unet_ = UNet2DConditionModel.from_pretrained(model / "unet")
            net = ControlNetModel.from_unet(unet_, conditioning_embedding_out_channels=(4, 4, 4, 8))
        elif kind == "FluxControlNetModel":
            flux_ = FluxTransformer2DModel.from_pretrained(model / "transformer")
            net = FluxControlNetModel.from_transformer(
                flux_,
                num_layers=1,
                num_single_layers=1,
                attention_head_dim=16,
                num_attention_heads=2,
            )
        elif kind == "QwenImageControlNetModel":
            qwen_ = QwenImageTransformer2DModel.from_pretrained(model / "transformer")
            net = QwenImageControlNetModel.from_transformer(
                qwen_, num_layers=1, attention_head_dim=16, num_attention_heads=2
            )
        elif kind == "ZImageControlNetModel":
            config = ZImageTransformer2DModel.load_config(model / "transformer")
            shared = set(signature(ZImageControlNetModel.__init__).parameters)
            net = ZImageControlNetModel(
                **{name: config[name] for name in config if name in shared},
                control_layers_places=[0],
                control_refiner_layers_places=[0],
                control_in_dim=2 * config["in_channels"] + 1,
                add_control_noise_refiner="control_noise_refiner",
            )
        elif kind == "SanaControlNetModel":
            config = SanaTransformer2DModel.load_config(model / "transformer")
            shared = set(signature(SanaControlNetModel.__init__).parameters)
            net = SanaControlNetModel(**{name: config[name] for name in config if name in shared})
        else:
            sd3_ = SD3Transformer2DModel.from_pretrained(model / "transformer")
            net = SD3ControlNetModel.from_transformer(
                sd3_, num_layers=1, num_extra_conditioning_channels=0
            )
        with torch.no_grad():
            for weight in net.parameters():
                weight.add_(0.05 * torch.randn_like(weight))
        net.save_pretrained(folder)
    return folder


def ip_adapter(folder: Path, model: Path) -> Path:
    """An IP-Adapter with its picture encoder for a tiny UNet or FLUX.1."""
    state: dict[str, torch.Tensor] = {}
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")
        torch.manual_seed(4)
        if (model / "unet").is_dir():
            unet_ = UNet2DConditionModel.from_pretrained(model / "unet")
            width, tokens = unet_.config.cross_attention_dim, 4
            layers = [name for name in unet_.attn_processors if name.endswith("attn2.processor")]
            modules = dict(unet_.named_modules())
            for at, name in enumerate(layers):
                out = modules[name.removesuffix(".processor")].to_k.out_features
                for each in ("to_k_ip", "to_v_ip"):
                    state[f"ip_adapter.{2 * at + 1}.{each}.weight"] = torch.randn(out, width)
        else:
            width, tokens = WIDTH, 4
            for each in ("k", "v"):
                name = f"double_blocks.0.processor.ip_adapter_double_stream_{each}_proj"
                state[f"{name}.weight"] = torch.randn(32, width)
                state[f"{name}.bias"] = torch.randn(32)
        first = "image_proj" if (model / "unet").is_dir() else "ip_adapter_proj_model"
        state[f"{first}.proj.weight"] = torch.randn(tokens * width, WIDTH)
        state[f"{first}.proj.bias"] = torch.randn(tokens * width)
        state[f"{first}.norm.weight"] = torch.ones(width)
        state[f"{first}.norm.bias"] = torch.zeros(width)
        vision().save_pretrained(folder / "image_encoder")
    save_file(state, folder / "ip_adapter.safetensors")
    return folder / "ip_adapter.safetensors"


def vision() -> Any:
    config = CLIPVisionConfig(
        hidden_size=WIDTH,
        intermediate_size=2 * WIDTH,
        projection_dim=WIDTH,
        num_hidden_layers=2,
        num_attention_heads=4,
        image_size=32,
        patch_size=8,
    )
    return CLIPVisionModelWithProjection(config)


def redux(folder: Path) -> Path:
    """A Redux model for the tiny FLUX.1."""
    with warnings.catch_warnings(), torch.random.fork_rng(devices=[]):
        warnings.simplefilter("ignore")
        torch.manual_seed(5)
        parts = {
            "image_encoder": SiglipVisionModel(
                SiglipVisionConfig(
                    hidden_size=16,
                    intermediate_size=32,
                    num_hidden_layers=1,
                    num_attention_heads=2,
                    image_size=32,
                    patch_size=8,
                )
            ),
            "image_embedder": ReduxImageEncoder(redux_dim=16, txt_in_features=WIDTH),
            "feature_extractor": SiglipImageProcessorPil(size={"height": 32, "width": 32}),
        }
    index: dict[str, Any] = {"_class_name": "FluxPriorReduxPipeline"}
    for name, part in parts.items():
        part.save_pretrained(folder / name)
        index[name] = ["library", type(part).__name__.removesuffix("Pil")]
    (folder / "model_index.json").write_text(json.dumps(index))
    return folder


def safety_checker(folder: Path) -> None:
    """A safety checker, and what prepares its pictures, that finds everything unsafe."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        config = CLIPConfig(vision_config=vision().config.to_dict(), projection_dim=WIDTH)
        checker = StableDiffusionSafetyChecker(config)
        for weight in checker.parameters():
            torch.nn.init.normal_(weight)
        checker.concept_embeds_weights.data.fill_(-1.0)  # every distance is above it
        checker.save_pretrained(folder / "safety_checker")
        CLIPImageProcessorPil(
            size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32}
        ).save_pretrained(folder / "feature_extractor")
