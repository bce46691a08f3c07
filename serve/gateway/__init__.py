"""The public face of the endpoint: an ASGI application in front of TorchServe."""
