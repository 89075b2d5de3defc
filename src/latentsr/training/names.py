"""The stages by name, for a command line that has not imported torch."""

# configs/ has a file for each, with which `latentsr train NAME` trains it unless told otherwise.
CONFIGS = {
    "cutoff": "cutoff/small.yaml",
    "vae": "vae/small.yaml",
    "vocoder": "vocoder/istft.yaml",
    "ldm": "ldm/small.yaml",
    "distill": "ldm/distill.yaml",
    "excitation": "vocoder/excitation.yaml",
    "mamba_gan": "vocoder/mamba_gan.yaml",
    "live": "vocoder/live.yaml",
    "aeromamba": "vocoder/aeromamba.yaml",
    "diffwave_mamba": "vocoder/diffwave_mamba.yaml",
    "mambawave": "vocoder/mambawave.yaml",
}

# Stages that train the same component: which one, a config's key `architecture` says.
ARCHITECTURES = {
    "ldm": {"latent": "ldm", "audioldm2": "ldm", "distill": "distill"},
    "mamba_gan": {"fast": "mamba_gan", "excitation": "excitation", "aeromamba": "aeromamba"},
    "diffwave_mamba": {"fast": "diffwave_mamba", "mambawave": "mambawave"},
}
