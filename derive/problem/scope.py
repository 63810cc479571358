"""Features that users look for in a problem file and that the theory does not cover, each with its message.

A message says in one line that the feature is not covered and what to do instead.
"""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase


@dataclass(frozen=True)
class Outside:
    """One feature that the theory does not cover.

    Attributes
    ----------
    places : str
        Patterns in lower case, separated by blanks, of keys (`section`, `section.key`) and of values
        (`section.key=value`).
    found, remedy : str
        The two halves of the message.
    """

    places: str
    found: str
    remedy: str


OUTSIDE = (
    Outside(
        "target.df target.dof target.nu target.degrees* target.tail* *.family=*student* *.kind=*student* "
        "*.family=cauchy *.family=laplace",
        "targets and proposals are Gaussian mixtures: tails such as Student's t have no closed equations",
        "give Gaussians by target.weights, target.means and target.scales",
    ),
    Outside(
        "*.family *.distribution *.density *.log_prob *.logp *.energy *.potential target.kind target.type "
        "proposal.kind proposal.type  "
        "target.expression target.function likelihood* data data.*",
        "targets and proposals are Gaussian mixtures, and no other density or data can be given",
        "give Gaussians by weights, means and scales; for a density of your own take "
        "annealvi.beta_schedule into your own loop",
    ),
    Outside(
        "*.cov *.covs *.covariance *.cov_* *.covariance_* target.precision* proposal.precision* target.cholesky* "
        "proposal.cholesky* "
        "target.sigma* proposal.sigma*  "
        "target.std* proposal.std* target.variance* proposal.variance* flow.learn[[]*=cov flow.learn[[]*=covariance "
        "flow.learn[[]*=precision*",
        "a component's spread is stated by scales, and by covariances in the coordinates of target.means",
        "give scales = [1.0, 1.0], say, or one matrix per component, covariances = [[[1.0, 0.3], [0.3, 0.5]], ...]",
    ),
    Outside(
        "proposal.mean* proposal.init* init.mean* init.state* init.law=gauss* init.law=normal* init.law=zero* "
        "init.law=origin init.law=data init.law=prior init.law=mode* init.scale* init.radius init.seed",
        "initial means are independent and uniform on spheres of proposal.radius",
        "leave it out, or start from states of your own by `annealvi integrate --initial FILE`",
    ),
    Outside(
        "*learning_rate* *learning-rate* lr *.lr *.step_size *.stepsize step_size flow.step flow.rate flow.eta",
        "gradient flow is continuous and has no learning rate",
        "leave it out; `annealvi simulate --dt` is the particles' step, `annealvi flow --learning-rate` that of Adam",
    ),
    Outside(
        "*optimi[sz]er* adam* sgd* training* algorithm* flow.algorithm* flow.method* flow.solver* flow.momentum* "
        "flow.beta*  "
        "flow.weight_decay flow.precondition* flow.natural* momentum",
        "the flow is plain gradient flow: Adam, momentum and natural gradients have no closed equations here",
        "leave it out; `annealvi flow` trains RealNVP flows with Adam",
    ),
    Outside(
        "*batch* *epochs* *iterations* flow.steps steps flow.samples samples flow.particles particles flow.seed* "
        "seed seeds flow.replicas  "
        "replicas device flow.device",
        "how much is computed, and where, is no part of the problem",
        "give it to the command, such as `annealvi simulate --particles 256 --replicas 16 --seed 0`",
    ),
    Outside(
        "network* model* nn* realnvp* architecture* flow.layer* flow.width* flow.depth* flow.hidden* flow.network* "
        "flow.architecture*  "
        "flow.coupling* flow.activation flow.kind* flow.type* flow.model*",
        "[flow] is the gradient flow of the mixture, and networks are no part of a problem file",
        "use `annealvi flow --layers 8 --width 64`, which trains RealNVP flows on the problem's target",
    ),
    Outside(
        "*geometric[ _-]path* *geometric[ _-]bridge* *geometric[ _-]mixture* schedule.kind=*path "
        "schedule.kind=*bridge *.path",
        "the path q0^(1-beta) p^beta is no schedule: target.reference_scale states its q0, and kind = "
        '"geometric" is cooling, T = T0^(1 - t/t0)',
        'set target.reference_scale, or choose kind = "geometric" for that cooling',
    ),
    Outside(
        "prior* *.prior* *.base* *.q0 *.p0 *.reference reference* *.reference_[mwdcp]*",
        "there is no prior; the one base density is q0 = N(0, target.reference_scale^2 I) of the path "
        "q0^(1-beta) p^beta",
        "state the whole target, with its prior if it has one, in [target]; for the path set target.reference_scale",
    ),
    Outside(
        "loss* divergence* target.objective* proposal.objective* flow.objective* flow.loss* flow.divergence* "
        "flow.estimator* *alpha_divergence* *renyi* objective.kind=* objective.name* objective.type* objective.alpha* "
        "objective.divergence* objective.loss*",
        "the objective is the reverse KL(q || p^beta/Z), the forward KL(p || q) or both: no other divergence or "
        "distance is covered",
        'set objective.kind to "reverse-kl", "forward-kl" or "mixed", or leave it out',
    ),
    Outside(
        "mcmc* sampler* langevin* hmc* smc* ais* annealing* tempering* parallel* flow.noise* "
        "flow.langevin* flow.diffusion* flow.temperature*",
        "no sampler is covered: neither MCMC and Langevin dynamics nor AIS, SMC and parallel tempering",
        "leave it out; the temperature's course is stated in [schedule]",
    ),
    Outside(
        "schedule.kind=*warm*up* schedule.kind=kl* schedule.kind=*vae schedule.warmup* schedule.warm_up*",
        "KL warm-up multiplies KL(q || prior) by a factor below one, which tempers the prior "
        "colder: the opposite direction",
        'choose kind = "linear", "geometric" or "exponential" to anneal the target',
    ),
    Outside(
        "schedule.kind=cycl* schedule.kind=*restart* schedule.kind=saw* schedule.kind=periodic "
        "schedule.cycle* schedule.period* schedule.restart*",
        "there is no kind of temperature that rises again",
        'write it out: kind = "table", points = [[0, 300], [500, 1], [501, 100], [1000, 1]], or '
        'kind = "expression" with mod',
    ),
    Outside(
        "schedule.kind=none schedule.kind=off schedule.kind=no",
        "there is no such kind",
        'no annealing is kind = "constant" with T0 = 1',
    ),
    Outside(
        "schedule.kind=step* schedule.kind=stair* schedule.kind=piecewise* schedule.kind=log* "
        "schedule.kind=inverse* schedule.kind=poly*  "
        "schedule.kind=power* schedule.kind=sigmoid* schedule.kind=tanh schedule.kind=sqrt* schedule.kind=custom "
        "schedule.function",
        "there is no kind for this curve",
        'give its points, kind = "table" and points = [[0, 300], [1000, 1]], or its formula, kind = "expression", '
        "which knows sigmoid, floor and mod",
    ),
    Outside(
        "schedule.beta schedule.beta0 schedule.beta_0 schedule.beta_[smil]* schedule.beta_end* schedule.t_[smeif]* "
        "schedule.tmin schedule.tmax schedule.steps schedule.duration schedule.decay* schedule.gamma schedule.rate",
        "a schedule is stated by T0 = 1/beta at the start and the time scale t0, and ends at T = 1",
        'give T0 and t0, or kind = "table" with points = [[0, 300], [1000, 1]]',
    ),
    Outside(
        "flow.manifold=torus flow.manifold=simplex flow.manifold=hyperbolic flow.manifold=stiefel "
        "flow.manifold=*wasserstein* flow.manifold=bures* flow.manifold=fisher* flow.metric=* flow.geometry*",
        "means move on their spheres or freely in Euclidean space, and learned covariances in the metric log or "
        "bures-wasserstein: other manifolds and metrics are not covered",
        "let flow.manifold be one of sphere, euclidean, and flow.metric one of log, bures-wasserstein",
    ),
)
"""The features outside the theory. The first entry that fits a key or value gives the message."""


def outside(key: str, value: object = None) -> tuple[str, str] | None:
    """The message, as (found, remedy), for a key or a key's value that belongs to a feature outside the theory.

    None where no entry fits.
    """
    texts = [f"{key}={value}", key] if isinstance(value, str) else [key]
    for text in texts:
        for entry in OUTSIDE:
            if any(fnmatchcase(text[:80].lower(), place) for place in entry.places.split()):
                return entry.found, entry.remedy
    return None
