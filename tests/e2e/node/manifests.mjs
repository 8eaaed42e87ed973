// Reads a JSON list of Kubernetes objects from standard input; prints a JSON list of what is wrong with them.
//
// Values are judged by the validators that come with the models of Istio and of the Gateway API. Those let unknown fields pass, so
// each object is also given to the TypeScript compiler as a literal of its type, which does not.

import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import ts from "typescript";

const HERE = dirname(fileURLToPath(import.meta.url));
const SOURCE = join(HERE, "_manifests.ts");
const PACKAGES = { "istio.io": "istio", "gateway.networking.k8s.io": "gateway-api" };

function moduleOf({ apiVersion }) {
  const group = apiVersion.split("/")[0];
  const found = Object.entries(PACKAGES).find(([ending]) => group.endsWith(ending));
  return found ? `@kubernetes-models/${found[1]}/${apiVersion}` : undefined;
}

function nameOf({ kind, metadata }) {
  return `${kind} ${metadata?.name}`;
}

async function invalidValues(object) {
  const module = moduleOf(object);
  if (!module) return [`${nameOf(object)}: no model of ${object.apiVersion}`];
  try {
    const models = await import(module);
    new models[object.kind](object).validate();
    return [];
  } catch (error) {
    return [`${nameOf(object)}: ${error.message}`];
  }
}

function unknownFields(objects) {
  const lines = objects.filter(moduleOf).map(
    (object) => `const _: import("${moduleOf(object)}").I${object.kind} = ${JSON.stringify(object)};`,
  );
  // Each in a block of its own, on one line, so that a line is an object.
  const text = lines.map((line) => `{ ${line} }`).join("\n");
  const options = { noEmit: true, strict: true, skipLibCheck: true, types: [], module: ts.ModuleKind.NodeNext, target: ts.ScriptTarget.ES2022 };
  const host = ts.createCompilerHost(options);
  const read = host.getSourceFile.bind(host);
  host.getSourceFile = (name, version) => (name === SOURCE ? ts.createSourceFile(name, text, version) : read(name, version));
  host.fileExists = ((exists) => (name) => name === SOURCE || exists(name))(host.fileExists.bind(host));
  const known = objects.filter(moduleOf);
  return ts.getPreEmitDiagnostics(ts.createProgram([SOURCE], options, host)).map((found) => {
    const line = found.file ? found.file.getLineAndCharacterOfPosition(found.start).line : 0;
    return `${nameOf(known[line] ?? {})}: ${ts.flattenDiagnosticMessageText(found.messageText, " ")}`;
  });
}

let input = "";
for await (const part of process.stdin) input += part;
const objects = JSON.parse(input);
const invalid = (await Promise.all(objects.map(invalidValues))).flat();
console.log(JSON.stringify([...invalid, ...unknownFields(objects)]));
