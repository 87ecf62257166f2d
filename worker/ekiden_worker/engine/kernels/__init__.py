"""GPU kernels in Triton. Without a GPU its interpreter runs them: TRITON_INTERPRET=1 when Triton is imported."""
