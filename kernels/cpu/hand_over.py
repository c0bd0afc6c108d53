"""What a latent hands over to the compiled layers of a step in segments."""
from npdvae.kernels.cpu.compiler import CONTRACT, kernel


@kernel(CONTRACT)
def put_codes(codes, categories, numbers):
    """codes int64 [S, B, D] as numbers d K + k, int32 [B, S, D]; whether all are categories."""
    S, B, D = codes.shape
    good = True
    for b in range(B):
        for s in range(S):
            for d in range(D):
                k = codes[s, b, d]
                good &= 0 <= k < categories
                numbers[b, s, d] = d * categories + k
    return good
