"""The kinds of work of a fused training step, and the arguments of each: what the plan writes and kernels read.

A job is one row of an int64 table: its kind, its number of chunks, then the fields below in this order. The kernel of
the same name unpacks them under these names, less the i_. Offsets and strides (ld_...) count elements of `mem`
(float32) or, where the name begins with i_, of `ints` (int32). D latents, K categories, S samples of each example.
"""
MOST_ARGUMENTS = 24

FIELDS = {
    # chunk = examples [c * group, ...): targets x, and where i_index >= 0 the list of ones, or (fours 1) fours, of each
    "pixels": ("group", "width", "x", "ld_x", "i_index", "ld_index", "i_count", "mode", "i_thresholds", "levels",
               "fours"),
    # chunk = weight rows [c * group, ...): for each, the rows of the batch that picked it
    "invert": ("group", "width", "S", "i_index", "ld_index", "i_count", "i_rows", "ld_rows", "i_rows_count"),
    # chunk = (panel, rows [.. * group, ...)): y = activation(bias + sum of picked rows of w)
    "pick": ("group", "groups", "S", "i_index", "ld_index", "i_count", "w", "w_rows", "bias", "y", "ld_y",
             "activation"),
    # chunk = (panels, tiles of rows): y = activation(x w + bias); with target >= 0, BCE and its gradient in place of y
    "dense": ("panels", "all_panels", "tiles", "groups", "all_tiles", "x", "ld_x", "w", "w_rows", "bias", "y", "ld_y",
              "inner", "activation", "target", "ld_target", "width", "S", "loss", "parts"),
    # chunk = (panels of dx, tiles of rows): dx = (dy w^T) activation'(y)
    "backward": ("panels", "all_panels", "tiles", "groups", "all_tiles", "dy", "ld_dy", "w", "w_rows", "w_panel",
                 "inner", "dx", "ld_dx", "y", "ld_y", "activation", "zero"),
    # chunk = one panel of w, or (several, tiles of weight rows): p, m, v of w and its bias updated with x^T dy
    "weight_gradient": ("panels", "all_panels", "tiles", "groups", "all_tiles", "x", "ld_x", "inner", "dy", "ld_dy",
                        "w", "w_rows", "bias", "span", "S"),
    # chunk = (panel, weight rows [.. * group, ...)): the same where x is lists of rows
    "picked_weight_gradient": ("group", "groups", "i_rows", "ld_rows", "i_rows_count", "inner", "dy", "ld_dy", "w",
                               "w_rows", "bias", "span", "S"),
    # chunk = examples [c * group, ...), side by side in whole vectors: posterior, KL and its gradient, codes
    "latent": ("group", "D", "K", "S", "h", "ld_h", "dkl", "q", "log_p", "kl", "i_codes", "i_numbers", "free_bits"),
    # chunk = examples [c * group, ...): gradient at the encoder's output, from costs or from gradients at the codes
    "latent_backward": ("group", "D", "K", "S", "ld_h", "dkl", "q", "i_codes", "loss", "parts", "dh", "estimator"),
    "pathwise_backward": ("group", "D", "K", "S", "h", "ld_h", "dkl", "q", "i_codes", "dcodes", "ld_dcodes", "dh",
                          "estimator", "divide"),
    # one chunk: log p(z) from the prior's logits
    "prior": ("D", "K", "logits", "log_p"),
    # one chunk: gradient of the prior's logits and their update
    "prior_gradient": ("D", "K", "logits", "log_p", "q", "kl", "ld_q", "span", "free_bits"),
    # one chunk: the batch's sums of cost and KL, and the running mean of the cost
    "report": ("S", "loss", "parts", "kl", "D", "tracks"),
    # the exact gradient, over rows of codes that the batch shares; tables q, f and qt have ld columns, an example each
    # chunk = columns of source [c * group, ...): target = source transposed
    "turn": ("group", "width", "source", "ld_source", "target", "ld_target"),
    # chunk = PANEL rows of w [inputs, inner]: target = these rows as columns
    "turn_weight": ("w", "w_rows", "inner", "target"),
    # chunk = codes [c * group, ...): the sum of each one's q(z|x) over the batch
    "code_weights": ("group", "codes", "D", "i_index", "qt", "q", "ld", "weights"),
    # one chunk: the codes worth decoding, the rows of each category among them, and their extent (codes, group)
    "code_list": ("codes", "D", "K", "i_all_codes", "weights", "longest", "unit", "parts", "i_index", "i_rows",
                  "ld_rows", "i_rows_count", "i_extent"),
    # chunk = (panel, rows [.. * group, ...)), as "pick", "dense" and "backward" for codes
    "code_pick": ("groups", "i_extent", "i_index", "D", "w", "w_rows", "bias", "y", "ld_y", "activation"),
    "code_dense": ("groups", "i_extent", "x", "ld_x", "w", "w_rows", "bias", "y", "ld_y", "inner", "activation"),
    "code_backward": ("groups", "i_extent", "dy", "ld_dy", "turned", "inner", "dx", "ld_dx", "y", "ld_y",
                      "activation", "zero"),
    # chunk = rows [c * group, ...): q and f of all examples, and gradients in place of the pixels' logits
    "code_cost": ("i_extent", "width", "D", "i_index", "qt", "logits", "ld_logits", "q", "f", "ld", "x", "ld_x", "xt",
                  "zero"),
    "code_cost_listed": ("i_extent", "width", "D", "i_index", "qt", "logits", "ld_logits", "q", "f", "ld", "i_ones",
                         "ld_ones", "i_ones_count", "i_lit", "ld_lit", "i_lit_count", "zero"),
    # chunk = examples [c * group, ...): gradient at the encoder's output, and the expected cost
    "code_latent_backward": ("group", "D", "K", "i_extent", "i_index", "q", "f", "ld", "dkl", "ld_h", "dh", "loss",
                             "pixels"),
    # chunk = (panels, tiles of weight rows), as "weight_gradient"; and as "picked_weight_gradient"
    "code_weight_gradient": ("panels", "all_panels", "tiles", "groups", "all_tiles", "i_extent", "x", "ld_x", "dy",
                             "ld_dy", "w", "w_rows", "bias", "span"),
    "code_picked_weight_gradient": ("group", "groups", "i_extent", "i_rows", "ld_rows", "i_rows_count", "inner", "dy",
                                    "ld_dy", "w", "w_rows", "bias", "span"),
    # chunk = rows [c * group, ...): rows of y times their weights
    "weigh_rows": ("group", "S", "weights", "y", "ld_y", "width"),
    # chunk = parameters [c * group, ...) of `span`, whose whole gradient lies 3 span behind: its sum of squares
    "squares": ("group", "span"),
    # chunk = parameters [c * group, ...): the update with the whole gradient, times a factor
    "apply": ("group", "span"),
    # as "dense", "backward" and "weight_gradient" (a chunk: panels and tiles of weight rows), products in bfloat16
    "dense_bfloat16": ("panels", "all_panels", "tiles", "groups", "all_tiles", "x", "ld_x", "w", "w_rows", "bias", "y",
                       "ld_y", "inner", "activation", "target", "ld_target", "width", "S", "loss", "parts"),
    "backward_bfloat16": ("panels", "all_panels", "tiles", "groups", "all_tiles", "dy", "ld_dy", "w", "w_rows",
                          "w_panel", "inner", "dx", "ld_dx", "y", "ld_y", "activation", "zero"),
    "weight_gradient_bfloat16": ("panels", "all_panels", "tiles", "groups", "all_tiles", "x", "ld_x", "dy", "ld_dy",
                                 "w", "w_rows", "bias", "span", "S", "zero"),
    # the first layer on fours of pixels: chunks as "pick", as "invert" but of a block of examples, and as
    # "picked_weight_gradient" but of fours of weight rows
    "pick_fours": ("group", "groups", "fours", "i_index", "ld_index", "i_count", "w", "w_rows", "bias", "y", "ld_y",
                   "activation"),
    "invert_fours": ("group", "fours", "i_index", "ld_index", "i_count", "i_rows", "i_rows_count"),
    "fours_weight_gradient": ("group", "groups", "fours", "block", "i_rows", "i_rows_count", "inner", "dy", "ld_dy",
                              "w", "w_rows", "bias", "span", "zero"),
}
KINDS = {name: i for i, name in enumerate(FIELDS)}
(PIXELS, INVERT, PICK, DENSE, BACKWARD, WEIGHT_GRADIENT, PICKED_WEIGHT_GRADIENT, LATENT, LATENT_BACKWARD,
 PATHWISE_BACKWARD, PRIOR, PRIOR_GRADIENT, REPORT, TURN, TURN_WEIGHT, CODE_WEIGHTS, CODE_LIST, CODE_PICK, CODE_DENSE,
 CODE_BACKWARD, CODE_COST, CODE_COST_LISTED, CODE_LATENT_BACKWARD, CODE_WEIGHT_GRADIENT, CODE_PICKED_WEIGHT_GRADIENT,
 WEIGH_ROWS, SQUARES, APPLY, DENSE_BFLOAT16, BACKWARD_BFLOAT16, WEIGHT_GRADIENT_BFLOAT16, PICK_FOURS, INVERT_FOURS,
 FOURS_WEIGHT_GRADIENT) = range(len(FIELDS))

LINEAR, RELU, LEAKY_RELU, TANH = range(4)
ACTIVATIONS = {"linear": LINEAR, "relu": RELU, "leaky_relu": LEAKY_RELU, "tanh": TANH}
BEHIND_PRODUCTS = (LEAKY_RELU, TANH)            # activations that a product leaves to `activate`; a ReLU is its own

THRESHOLDED, DRAWN, GREY = range(3)             # pixels: more than half of all levels; drawn; as they are
PIXEL_MODES = {"threshold": THRESHOLDED, "dynamic": DRAWN, "static": DRAWN, "none": GREY}

NO_BASELINE, SHIFTED, LEAVE_ONE_OUT, RLOO, EXACT, STRAIGHT_THROUGH, REINMAX = range(7)
ESTIMATORS = {"rloo": RLOO, "exact": EXACT, "straight_through": STRAIGHT_THROUGH, "reinmax": REINMAX}
BASELINES = {"none": NO_BASELINE, "constant": SHIFTED, "running_mean": SHIFTED,
             "batch_leave_one_out": LEAVE_ONE_OUT}      # of reinforce
PATHWISE = (STRAIGHT_THROUGH, REINMAX)          # estimators that read the gradients at the codes

STEP_SCALARS = 12                               # numbers of one step: s0 .. s4 of the update, then these
SCALE, KL_WEIGHT, TEMPERATURE, BASELINE, GRADIENT, FACTOR, RULE = range(5, 12)
AT_ONCE, KEPT = range(2)                        # GRADIENT: the update behind each, or it is kept
NO_UPDATE, ADAPTIVE, MOMENTUM, GIVEN = range(4)     # RULE of "apply": none yet; updates.adaptive; SGD; p = g
