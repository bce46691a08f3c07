"""The working side of a server: what runs beside the edit pipeline in its process."""
