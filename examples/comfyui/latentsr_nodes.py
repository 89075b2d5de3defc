"""latentsr in ComfyUI: put this file into ComfyUI/custom_nodes/, with latentsr installed beside ComfyUI."""

from latentsr.plugins.comfyui import NODE_CLASS_MAPPINGS, NODE_DISPLAY_NAME_MAPPINGS

__all__ = ["NODE_CLASS_MAPPINGS", "NODE_DISPLAY_NAME_MAPPINGS"]
