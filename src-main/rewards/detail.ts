/** Edge density: how much there is to see in a picture. */
import { scope } from '../engine/scope.ts';
import { tf, type Tensor, type Tensor1D, type Tensor4D } from '../engine/tf.ts';
import { pictureMean } from './picture-mean.ts';
import { needPixels, type Reward, type RewardDefinition } from './reward.ts';

/** |x| with slope 0 at 0, as in torch (TensorFlow.js has -1 there): areas of one colour have no slope. */
function absolute(x: Tensor): Tensor {
  return tf.mul(x, tf.sign(x));
}

/**
 * Mean absolute difference to the right neighbour plus that to the lower one: mean |x[., j+1] - x[., j]| + mean |x[i+1, .] - x[i, .]|.
 * @param images [B,H,W,3] in [0,1], at least 2 x 2
 * @returns [B]; the same figure as the measure `edgeDensity`
 */
export function edgeDensity(images: Tensor4D): Tensor1D {
  const [B, H, W, C] = images.shape;
  needPixels('detail', images, 2);
  return scope(() => {
    const across = tf.sub(tf.slice(images, [0, 0, 1, 0], [B, H, W - 1, C]), tf.slice(images, [0, 0, 0, 0], [B, H, W - 1, C]));
    const down = tf.sub(tf.slice(images, [0, 1, 0, 0], [B, H - 1, W, C]), tf.slice(images, [0, 0, 0, 0], [B, H - 1, W, C]));
    return tf.add<Tensor1D>(pictureMean(absolute(across)), pictureMean(absolute(down)));
  });
}

const detail: Reward = { name: 'detail', score: edgeDensity, dispose() {} };

export const detailDefinition: RewardDefinition = {
  name: 'detail', title: 'Detail', what: 'Edge density: mean difference between neighbouring pixels. With a target it keeps pictures from going blank.',
  habit: 'Trained alone, or without a target, it ends in noise and stripes.',
  needs: 'nothing', licence: 'none needed', range: '0 to 2, about 0.04 for flat drawings', color: '#78716c',
  open: async () => detail,
};
