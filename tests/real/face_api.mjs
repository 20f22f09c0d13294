// Runs the nets of face-api by its own JavaScript, on the CPU and without a browser.
// node face_api.mjs PACKAGE INPUT.json OUTPUT.json
// Input: {net: [{shape, data}]}, pictures of uint8; output: {net: [{name: {shape, data}}]}, float32;
// data in base64.
import fs from 'node:fs';
import path from 'node:path';
import { pathToFileURL } from 'node:url';

const [folder, input, output] = process.argv.slice(2);

// The bundle is for browsers and takes a program with process.versions.node for another bundle.
Object.defineProperty(process, 'versions', { value: {} });
const api = await import(pathToFileURL(path.join(folder, 'dist', 'face-api.esm.js')));
const { tf } = api;
tf.env().setPlatform('plain', {
  now: () => performance.now(),
  encode: (text) => new TextEncoder().encode(text),
  decode: (bytes) => new TextDecoder().decode(bytes),
  isTypedArray: (x) => ArrayBuffer.isView(x) && !(x instanceof DataView),
});
class Missing {}
api.env.setEnv({
  Canvas: Missing,
  CanvasRenderingContext2D: Missing,
  Image: Missing,
  ImageData: Missing,
  Video: Missing,
  createCanvasElement: () => new Missing(),
  createImageElement: () => new Missing(),
});
await tf.setBackend('cpu');

function load(net, name) {
  const file = (end) => fs.readFileSync(path.join(folder, 'model', name + end));
  const [group] = JSON.parse(file('-weights_manifest.json'));
  const bytes = Uint8Array.from(file('.bin')).buffer;
  net.loadFromWeightMap(tf.io.decodeWeights(bytes, group.weights));
  return net;
}

function encoded(tensor) {
  const values = Float32Array.from(tensor.dataSync());
  return { shape: tensor.shape, data: Buffer.from(values.buffer).toString('base64') };
}

const nets = {
  async detector(picture, net) {
    const options = { inputSize: 224, scoreThreshold: 0.5 };
    const faces = await net.locateFaces(picture, options);
    const boxes = faces.map(({ box }) => [box.left, box.top, box.right, box.bottom]);
    return {
      resized: (await api.toNetInput(picture)).toBatchTensor(224, false),
      raw: await net.forward(picture, 224),
      boxes: tf.tensor2d(boxes.flat(), [boxes.length, 4]),
    };
  },
  async expression(crop, net) {
    const pixels = await api.toNetInput(crop);
    return {
      resized: pixels.toBatchTensor(112, true),
      features: net.faceFeatureExtractor.forwardInput(pixels),
      probabilities: net.forwardInput(pixels),
    };
  },
  async landmarks(crop, net) {
    return { points: await net.forward(crop) };
  },
};
const loaded = {
  detector: load(new api.TinyFaceDetector(), 'tiny_face_detector_model'),
  expression: load(new api.FaceExpressionNet(), 'face_expression_model'),
  landmarks: load(new api.FaceLandmark68Net(), 'face_landmark_68_model'),
};

const results = {};
for (const [name, pictures] of Object.entries(JSON.parse(fs.readFileSync(input)))) {
  results[name] = [];
  for (const { shape, data } of pictures) {
    const picture = tf.tensor3d(Float32Array.from(Buffer.from(data, 'base64')), shape, 'float32');
    const found = await nets[name](picture, loaded[name]);
    results[name].push(Object.fromEntries(Object.entries(found).map(([k, t]) => [k, encoded(t)])));
  }
}
fs.writeFileSync(output, JSON.stringify(results));
