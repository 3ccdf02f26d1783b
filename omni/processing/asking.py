"""What a model that hears or speaks is asked: in its data, in evaluation and in serving alike."""

ASK_TRANSCRIPT = "Write down what you hear."
ASK_SAY = "Say: {text}"
ASK_REPEAT = "Say what you hear."
ASK_IMITATE = "Say in this voice: {text}"
