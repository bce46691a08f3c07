import numpy as np
import torch

from neural_photo_editor.training.sample_grid import tile


def test_pictures_keep_their_place_and_white_gaps_lie_between() -> None:
    grid = torch.arange(6, dtype=torch.uint8).reshape(2, 3, 1, 1, 1).expand(2, 3, 3, 4, 5)
    picture = np.asarray(tile(grid, gap_px=2))
    assert picture.shape == (2 * 4 + 2, 3 * 5 + 2 * 2, 3)
    for row in range(2):
        for column in range(3):
            window = picture[row * 6 : row * 6 + 4, column * 7 : column * 7 + 5]
            assert (window == 3 * row + column).all()
    assert (picture[4:6] == 255).all()
    assert (picture[:, 5:7] == 255).all()
