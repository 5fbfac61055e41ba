"""How near the memory's rate are rms_norm, rotary and swiglu, against plain and compiled PyTorch?

Forward and backward in bf16 at the shapes of Qwen3. A rate counts the bytes that the pass must read and write
once: tensors in and out, gradients in and out. On a CPU smaller shapes, float32.
"""

from harness import main

from lamer_kernels.bench import layers

if __name__ == "__main__":
    main(layers.bench, layers.cases)
