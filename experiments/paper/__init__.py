"""The paper, reproduced: what `prunectl reproduce` computes, draws and says."""
