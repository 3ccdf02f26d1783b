"""GeneralPoints: its cards as text, pictures and speech, its formulas, and what verifies them."""
