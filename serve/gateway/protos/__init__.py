"""The gRPC service: editor.proto and the code generated from it."""
