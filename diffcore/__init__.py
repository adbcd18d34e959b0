"""The shared diffusion layer: tensors only, no chemistry, no files of a domain, no plotting.

Five ideas: a `State` of named fields; one `Process` per field; a denoiser that maps
``(state, times, context)`` to the clean state; samplers that are functions of a denoiser, a time
grid and explicit generators; wrappers that map a denoiser to a denoiser.
"""
