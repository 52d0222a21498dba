"""Serves signed manifests to devices and a control plane to operators."""
