"""Shipped model files: *.safetensors with a JSON card each."""
