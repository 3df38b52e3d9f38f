"""Look inside a model: its states and gates, its gradients, its weights. Needs the extra `plot`."""

from recurrax.view.gradients import gradient_flow as gradient_flow
from recurrax.view.gradients import plot_gradient_flow as plot_gradient_flow
from recurrax.view.history import plot_history as plot_history
from recurrax.view.page import page as page
from recurrax.view.pictures import plot_gates as plot_gates
from recurrax.view.pictures import plot_states as plot_states
from recurrax.view.states import states as states
from recurrax.view.weights import plot_weights as plot_weights
