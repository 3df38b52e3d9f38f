"""What a model is made of."""

from recurrax.layers.activation import Activation as Activation
from recurrax.layers.dense import Dense as Dense
from recurrax.layers.dropout import Dropout as Dropout
from recurrax.layers.embedding import Embedding as Embedding
from recurrax.layers.flatten import Flatten as Flatten
from recurrax.layers.gru import GRU as GRU
from recurrax.layers.gru import GRUCell as GRUCell
from recurrax.layers.input_layer import Input as Input
from recurrax.layers.input_layer import InputLayer as InputLayer
from recurrax.layers.input_spec import InputSpec as InputSpec
from recurrax.layers.layer import Layer as Layer
from recurrax.layers.lstm import LSTM as LSTM
from recurrax.layers.lstm import LSTMCell as LSTMCell
from recurrax.layers.rnn import RNN as RNN
from recurrax.layers.simple_rnn import SimpleRNN as SimpleRNN
from recurrax.layers.simple_rnn import SimpleRNNCell as SimpleRNNCell
