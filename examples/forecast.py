"""Forecast a time series of several columns, a day ahead, from the three days before.

    python examples/forecast.py [--csv measurements.csv --target temperature] [--plot forecast.png]

The CSV has a head line and one row an hour (or any other step) of numbers; columns that are no
numbers, such as dates, are left out. Without one, hourly weather is made up: a year of
temperature, pressure and wind that depend on each other. There the mean error of the forecast is
at most a quarter of that of "tomorrow will be like today".
"""

import argparse
import csv

import numpy as np

import recurrax as keras
from recurrax import layers

PAST, AHEAD = 72, 24


def read_csv(path):
    """Column names and the array (rows, columns) of the columns that are numbers."""
    with open(path, newline="") as file:
        head, *rows = csv.reader(file)
    columns = {}
    for name, values in zip(head, zip(*rows, strict=True), strict=True):
        try:
            columns[name] = [float(value) for value in values]
        except ValueError:
            continue
    return list(columns), np.array(list(columns.values()), "float32").T


def made_up(hours=24 * 365):
    """A year of weather: fronts of low pressure come along, bring wind, and cool the air."""
    draw = np.random.default_rng(0)
    t = np.arange(hours)
    shocks = draw.normal(size=hours) * 0.05
    pressure = np.zeros(hours)
    for k in range(2, hours):  # a damped oscillation that chance keeps going
        pressure[k] = 1.96 * pressure[k - 1] - 0.965 * pressure[k - 2] + shocks[k]
    wind = np.maximum(0, 5 - 30 * np.gradient(pressure) + draw.normal(size=hours) * 0.5)
    day = 6 * np.sin(2 * np.pi * t / 24) + 10 * np.sin(2 * np.pi * t / (24 * 365))
    temperature = 10 + day + 1.5 * np.roll(pressure, 18) + draw.normal(size=hours) * 0.4
    columns = ["temperature", "pressure", "wind"]
    return columns, np.stack([temperature, pressure, wind], axis=1).astype("float32")


def windows(data, target):
    """Every PAST rows, and the AHEAD values of the target column that follow them."""
    starts = np.arange(0, len(data) - PAST - AHEAD, 3)
    x = data[starts[:, None] + np.arange(PAST)]
    y = data[starts[:, None] + np.arange(PAST, PAST + AHEAD), target]
    return x, y


def main(csv=None, target=None, epochs=8, hours=24 * 365, plot="forecast.png"):
    keras.utils.set_random_seed(0)
    names, data = made_up(hours) if csv is None else read_csv(csv)
    column = names.index(target or names[0])
    cut = int(len(data) * 0.8)
    mean, spread = data[:cut].mean(axis=0), data[:cut].std(axis=0)  # of the training part alone
    scaled = (data - mean) / spread
    x, y = windows(scaled[:cut], column)
    x_test, y_test = windows(scaled[cut:], column)

    model = keras.Sequential(
        [layers.Input((PAST, len(names))), layers.GRU(48), layers.Dense(AHEAD)]
    )
    model.summary()
    model.compile(optimizer=keras.optimizers.Adam(learning_rate=3e-3), loss="mae")
    model.fit(x, y, epochs=epochs, batch_size=64, validation_split=0.1, shuffle=True)

    forecast = model.predict(x_test, verbose=0)
    error = np.abs(forecast - y_test).mean() * spread[column]
    naive = np.abs(x_test[:, -AHEAD:, column] - y_test).mean() * spread[column]
    print(f"Mean error a day ahead: {error:.2f}; of 'tomorrow like today': {naive:.2f}")
    scale = mean[column], spread[column]
    picture(x_test[..., column], y_test, forecast, names[column], scale, plot)
    return error / naive


def picture(past, truth, forecast, name, scale, path):
    """Three forecasts beside what came."""
    from matplotlib import pyplot

    mean, spread = scale
    figure, panels = pyplot.subplots(3, 1, figsize=(9, 7), sharex=True, layout="constrained")
    for axes, k in zip(panels, np.linspace(0, len(past) - 1, 3).astype(int), strict=True):
        axes.plot(range(-PAST, 0), past[k] * spread + mean, color="gray", label="past")
        axes.plot(range(AHEAD), truth[k] * spread + mean, label="truth")
        axes.plot(range(AHEAD), forecast[k] * spread + mean, "--", label="forecast")
        axes.set_ylabel(name)
        axes.grid(alpha=0.25)
    panels[-1].set_xlabel("hours from now")
    figure.legend(*panels[0].get_legend_handles_labels(), loc="outside upper center", ncols=3)
    figure.savefig(path)
    pyplot.close(figure)
    print(f"The picture is in {path}.")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--csv", help="a CSV file; weather is made up where not given")
    parser.add_argument("--target", help="the column to forecast; the first where not given")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--plot", default="forecast.png")
    main(**vars(parser.parse_args()))
