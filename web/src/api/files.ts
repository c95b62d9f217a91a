import { request, type RecordJson } from "./client";

/** Stores the bytes, on a record where one is named, and gives the name of the file's own record. */
export async function upload(file: File, attachedTo = ""): Promise<string> {
  const response = await request("/v1/files", {
    method: "POST",
    headers: {
      "Content-Type": file.type || "application/octet-stream",
      "X-File-Name": encodeURIComponent(file.name),
      ...(attachedTo ? { "X-Attached-To": attachedTo } : {}),
    },
    body: file,
  });
  return ((await response.json()) as RecordJson).name;
}

export const downloadUrl = (file: string) => `/v1/${file}:download`;
