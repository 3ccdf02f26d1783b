"""An omni-modal model: a text LLM plus a dictionary of modalities."""
