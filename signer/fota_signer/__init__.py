"""Packs, signs, checks and shows images and manifests; owns keys."""
