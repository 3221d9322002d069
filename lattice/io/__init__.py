"""Checkpoints and run files, images in, exports out: the only room that knows HDF5.

checkpoint   `write_checkpoint`, `read_checkpoint`, `newest_checkpoint`, `digest`
runfile      `RunWriter`, which writes a run folder; runread: `RunFile`, which reads one
writer       `Writer`, a thread that writes beside the computation
images       `read_image`, `planes_from_image`; volumes: the formats, read in parts;
             segmentation: the arithmetic behind bone
export       `export` to the formats of other programs
provenance   `collect`
"""
