"""Exports a checkpoint as an artefact that is served without the training stack."""
