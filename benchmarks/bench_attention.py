"""How fast is varlen_attention against PyTorch's own attention at the shapes of Qwen3?

Packed sequences of equal length, so that the batched baselines need no padding: their best case. Forward and
backward, causal; the roofline is the rate of one large matrix product.
"""

from harness import main

from lamer_kernels.bench import attention

if __name__ == "__main__":
    main(attention.bench, attention.cases)
