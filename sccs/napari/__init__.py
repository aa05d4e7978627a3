"""The napari plug-in: `session` does the work, without a window; `widget` and `layers` connect it to napari."""
