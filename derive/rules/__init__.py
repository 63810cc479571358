"""The rules of the derivation, one subject a module. Each rule rewrites an expression as another of the same value:
gradients, slopes, the flow, the reduction of averages."""
