"""The napari plug-in: `session` is the work, without any window; `widget`, `io` and `napari.yaml` put it into napari."""
