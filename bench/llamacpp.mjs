// Perplexity of a GGUF file in llama.cpp, the second halves of windows scored: NODE_MODULES FILE.gguf TEXT WINDOW.
import fs from "node:fs";
import path from "node:path";
import { pathToFileURL } from "node:url";

const [, , modules, file, text, window] = process.argv;
const { getLlama, LlamaLogLevel } = await import(pathToFileURL(path.resolve(modules, "node-llama-cpp/dist/index.js")));
const size = Number(window);
const llama = await getLlama({ gpu: false, build: "never", logLevel: LlamaLogLevel.error });
const model = await llama.loadModel({ modelPath: file, gpuLayers: 0 });
const tokens = model.tokenize(fs.readFileSync(text, "utf8"));
const sequence = (await model.createContext({ contextSize: size, batchSize: size })).getSequence();
let loss = 0, count = 0;
for (let from = 0; from + size <= tokens.length; from += size) {
  const ids = tokens.slice(from, from + size);
  await sequence.clearHistory();
  const scored = (i) => i >= size / 2 - 1;
  const output = await sequence.controlledEvaluate(
    ids.slice(0, -1).map((id, i) => (scored(i) ? [id, { generateNext: { probabilities: true } }] : id)));
  for (let i = size / 2 - 1; i < size - 1; i++) {
    loss -= Math.log(output[i].next.probabilities.get(ids[i + 1]));
    count++;
  }
}
console.log(JSON.stringify({ perplexity: Math.exp(loss / count), tokens: count }));
process.exit(0);
