"""The classes that a checkpoint's files may name, and where they live. Nothing else is imported.

A value is a module, or "module:Class" where another class than the one named is used.
"""

from __future__ import annotations

from collections.abc import Mapping

__all__ = ["CLASSES"]

_TRANSFORMERS = "diffusers.models.transformers"
_SCHEDULERS = "diffusers.schedulers.scheduling"
_HERE = "diptych_diffusers.readers"

CLASSES: Mapping[str, str] = {
    # Denoisers
    "AuraFlowTransformer2DModel": f"{_TRANSFORMERS}.auraflow_transformer_2d",
    "ChromaTransformer2DModel": f"{_TRANSFORMERS}.transformer_chroma",
    "CogView4Transformer2DModel": f"{_TRANSFORMERS}.transformer_cogview4",
    "Flux2Transformer2DModel": f"{_TRANSFORMERS}.transformer_flux2",
    "FluxTransformer2DModel": f"{_TRANSFORMERS}.transformer_flux",
    "GlmImageTransformer2DModel": f"{_TRANSFORMERS}.transformer_glm_image",
    "Lumina2Transformer2DModel": f"{_TRANSFORMERS}.transformer_lumina2",
    "PixArtTransformer2DModel": f"{_TRANSFORMERS}.pixart_transformer_2d",
    "QwenImage21Transformer2DModel": f"{_TRANSFORMERS}.transformer_qwenimage21",
    "QwenImageTransformer2DModel": f"{_TRANSFORMERS}.transformer_qwenimage",
    "SD3Transformer2DModel": f"{_TRANSFORMERS}.transformer_sd3",
    "SanaTransformer2DModel": f"{_TRANSFORMERS}.sana_transformer",
    "UNet2DConditionModel": "diffusers.models.unets.unet_2d_condition",
    "ZImageTransformer2DModel": f"{_TRANSFORMERS}.transformer_z_image",
    # What is added to one
    "ControlNetModel": "diffusers.models.controlnets.controlnet",
    "FluxControlNetModel": "diffusers.models.controlnets.controlnet_flux",
    "QwenImageControlNetModel": "diffusers.models.controlnets.controlnet_qwenimage",
    "ReduxImageEncoder": "diffusers.pipelines.flux.modeling_flux",
    "SD3ControlNetModel": "diffusers.models.controlnets.controlnet_sd3",
    "SanaControlNetModel": "diffusers.models.controlnets.controlnet_sana",
    "ZImageControlNetModel": "diffusers.models.controlnets.controlnet_z_image",
    # Autoencoders
    "AsymmetricAutoencoderKL": "diffusers.models.autoencoders.autoencoder_asym_kl",
    "AutoencoderDC": "diffusers.models.autoencoders.autoencoder_dc",
    "AutoencoderKL": "diffusers.models.autoencoders.autoencoder_kl",
    "AutoencoderKLFlux2": "diffusers.models.autoencoders.autoencoder_kl_flux2",
    "AutoencoderKLQwenImage": "diffusers.models.autoencoders.autoencoder_kl_qwenimage",
    "AutoencoderKLQwenImage21": "diffusers.models.autoencoders.autoencoder_kl_qwenimage21",
    "AutoencoderTiny": "diffusers.models.autoencoders.autoencoder_tiny",
    # Schedulers
    "DDIMScheduler": f"{_SCHEDULERS}_ddim",
    "DDPMScheduler": f"{_SCHEDULERS}_ddpm",
    "DEISMultistepScheduler": f"{_SCHEDULERS}_deis_multistep",
    "DPMSolverMultistepScheduler": f"{_SCHEDULERS}_dpmsolver_multistep",
    "DPMSolverSinglestepScheduler": f"{_SCHEDULERS}_dpmsolver_singlestep",
    "EDMDPMSolverMultistepScheduler": f"{_SCHEDULERS}_edm_dpmsolver_multistep",
    "EDMEulerScheduler": f"{_SCHEDULERS}_edm_euler",
    "EulerAncestralDiscreteScheduler": f"{_SCHEDULERS}_euler_ancestral_discrete",
    "EulerDiscreteScheduler": f"{_SCHEDULERS}_euler_discrete",
    "FlowMatchEulerDiscreteScheduler": f"{_SCHEDULERS}_flow_match_euler_discrete",
    "FlowMatchHeunDiscreteScheduler": f"{_SCHEDULERS}_flow_match_heun_discrete",
    "FlowMatchLCMScheduler": f"{_SCHEDULERS}_flow_match_lcm",
    "HeunDiscreteScheduler": f"{_SCHEDULERS}_heun_discrete",
    "KDPM2AncestralDiscreteScheduler": f"{_SCHEDULERS}_k_dpm_2_ancestral_discrete",
    "KDPM2DiscreteScheduler": f"{_SCHEDULERS}_k_dpm_2_discrete",
    "LCMScheduler": f"{_SCHEDULERS}_lcm",
    "LMSDiscreteScheduler": f"{_SCHEDULERS}_lms_discrete",
    "PNDMScheduler": f"{_SCHEDULERS}_pndm",
    "SCMScheduler": f"{_SCHEDULERS}_scm",
    "TCDScheduler": f"{_SCHEDULERS}_tcd",
    "UniPCMultistepScheduler": f"{_SCHEDULERS}_unipc_multistep",
    # Encoders of text and pictures
    "CLIPTextModel": "transformers",
    "CLIPTextModelWithProjection": "transformers",
    "CLIPVisionModelWithProjection": "transformers",
    "Gemma2ForCausalLM": "transformers",
    "Gemma2Model": "transformers",
    "GlmImageForConditionalGeneration": "transformers",
    "GlmModel": "transformers",
    "Mistral3ForConditionalGeneration": "transformers",
    "Qwen2_5_VLForConditionalGeneration": "transformers",
    "Qwen3ForCausalLM": "transformers",
    "Qwen3Model": "transformers",
    "Qwen3VLForConditionalGeneration": "transformers",
    "Siglip2VisionModel": "transformers",
    "SiglipVisionModel": "transformers",
    "StableDiffusionSafetyChecker": "diffusers.pipelines.stable_diffusion.safety_checker",
    "T5EncoderModel": "transformers",
    "UMT5EncoderModel": "transformers",
    # Tokenizers and what prepares pictures; the variants that need no torchvision
    "ByT5Tokenizer": "transformers",
    "CLIPFeatureExtractor": "transformers.models.clip.image_processing_pil_clip:CLIPImageProcessorPil",
    "CLIPImageProcessor": "transformers.models.clip.image_processing_pil_clip:CLIPImageProcessorPil",
    "CLIPTokenizer": "transformers",
    "CLIPTokenizerFast": "transformers",
    "GemmaTokenizer": "transformers",
    "GemmaTokenizerFast": "transformers",
    "GlmImageProcessor": "transformers",
    "LlamaTokenizer": "transformers",
    "LlamaTokenizerFast": "transformers",
    "PixtralProcessor": "transformers:AutoTokenizer",  # whose words alone are read
    "PreTrainedTokenizerFast": "transformers",
    "Qwen2Tokenizer": "transformers",
    "Qwen2TokenizerFast": "transformers",
    "Qwen2VLProcessor": f"{_HERE}:PictureReader",
    "Qwen2_5_VLProcessor": f"{_HERE}:PictureReader",
    "Qwen3VLProcessor": f"{_HERE}:PictureReader",
    "Siglip2ImageProcessor": "transformers.models.siglip2.image_processing_pil_siglip2:Siglip2ImageProcessorPil",
    "Siglip2ImageProcessorFast": "transformers.models.siglip2.image_processing_pil_siglip2:Siglip2ImageProcessorPil",
    "SiglipImageProcessor": "transformers.models.siglip.image_processing_pil_siglip:SiglipImageProcessorPil",
    "T5Tokenizer": "transformers",
    "T5TokenizerFast": "transformers",
    "TokenizersBackend": "transformers",
}
