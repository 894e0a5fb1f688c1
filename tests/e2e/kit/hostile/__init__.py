"""Bad neighbours of a tarn, the ordinary clients beside them, and the judgement."""
