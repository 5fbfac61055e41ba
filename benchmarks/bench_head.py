"""How fast, and in how much memory, is linear_policy_loss against the loss heads of TRL, Liger and verl?"""

from harness import main

from lamer_kernels.bench import head

if __name__ == "__main__":
    main(head.bench, head.cases)
